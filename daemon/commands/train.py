"""`headwater train`: learn a model from the packaged data set."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import options
from .output import show

app = typer.Typer(no_args_is_help=True, help="Train a model on The Complete Journey.")
