"""The device that searches: what was configured, against what this machine has."""

from __future__ import annotations

import structlog

from gpuindex import DeviceUnusable
from gpuindex.device import choice

from .settings import ConfigurationError, IndexSection

log = structlog.get_logger(__name__)


def choose(settings: IndexSection) -> choice.DeviceKind:
    """The device to search on, told in the log.

    Raises:
        ConfigurationError: it was asked for by name, and cannot be used.
    """
    try:
        device = choice.chosen(settings.device)
    except DeviceUnusable as error:
        raise ConfigurationError(
            f'index.device = "cuda": {error}; with "auto" or "cpu" the CPU searches'
        ) from None
    reason = choice.missing() if settings.device == "auto" and device == "cpu" else None
    log.info("device_chosen", device=device, wanted=settings.device, missing=reason)
    return device
