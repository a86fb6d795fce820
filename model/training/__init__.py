"""Training: what the runs of both models share.

`fit` is the loop, `Run` lets a killed one go on, `Report` tells what came of it. What is learned,
and from which examples, is each model's own.
"""

from __future__ import annotations

from .device import autocast, pick_device, to_device
from .loop import Curve, Descent, Rules, TrainingDiverged, fit, one_cycle
from .report import Gates, Reliability, Report
from .run import DEFAULTS, Options, Run, Stage, unkept

__all__ = [
    "DEFAULTS",
    "Curve",
    "Descent",
    "Gates",
    "Options",
    "Reliability",
    "Report",
    "Rules",
    "Run",
    "Stage",
    "TrainingDiverged",
    "autocast",
    "fit",
    "one_cycle",
    "pick_device",
    "to_device",
    "unkept",
]
