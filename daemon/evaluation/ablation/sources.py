"""Sources: which code and which libraries a run's figures come from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import model

from .results import code


def identity(package: str) -> Mapping[str, str]:
    """What a run of one of the models depends on beside its configuration and its data."""
    root = Path(model.__file__).parent
    return {
        "code": code((root, root / "training", root / package)),
        "numpy": version("numpy"),
        "torch": version("torch"),
    }
