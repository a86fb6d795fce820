"""Run: one training run, from its start to its checkpoint, however often it is killed between.

Owns what is finished, and the state of what is not. Promises that a run which goes on takes the
same steps that it would have taken; so it goes on only where settings, data and libraries are the
same, and otherwise starts over and says why.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from ..checkpoints import read_manifest
from . import state

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How a run is carried out, beside what is learned.

    Attributes:
        since_ms: learn only from examples at or after this time; earlier events stay their history.
        base: folder of a checkpoint to start from; None starts from chance.
        resume: go on with a run that was ended before its checkpoint was written.
        save_every_s: seconds between two savings of the run's state.
    """

    since_ms: int | None = None
    base: Path | None = None
    resume: bool = True
    save_every_s: float = 20.0

    def to_dict(self) -> dict[str, Any]:
        """The options that a report names."""
        return {"since_ms": self.since_ms, "base": None if self.base is None else str(self.base)}

    def window(self, window: Mapping[str, int]) -> dict[str, int]:
        """A data window, with where learning begins if that is later than the data."""
        since = {} if self.since_ms is None else {"since_ms": self.since_ms}
        return {**window, **since}

    def identity(self) -> dict[str, Any]:
        """What of them decides which steps a run takes.

        Raises:
            CheckpointError: there is no checkpoint to start from.
        """
        base = None if self.base is None else read_manifest(self.base)["version"]
        return {"since_ms": self.since_ms, "base": base}


DEFAULTS = Options()
_UNKEPT = Options(resume=False, save_every_s=math.inf)


class Run:
    """What a run remembers on disk, beside the checkpoint that it will write."""

    def __init__(self, out: Path, identity: Mapping[str, Any], options: Options) -> None:
        """Take up the run that was left there, if it is the same.

        Args:
            out: the folder of the checkpoint to be.
            identity: JSON-ready; everything that decides which steps the run takes.
            options: whether and how.
        """
        self._path = out.with_name(f".{out.name}.run.safetensors")
        # Through JSON, so that tuples compare as they come back.
        self._identity: dict[str, Any] = json.loads(json.dumps(dict(identity)))
        self._every_s = options.save_every_s
        self._saved_s = time.monotonic()
        self._done: dict[str, Any] = {}
        self._stage: dict[str, Any] | None = None
        left = state.read(self._path) if options.resume else None
        if left is None:
            return
        if differing := _differing(left["identity"], self._identity):
            log.warning("run_starts_over", file=str(self._path), differing=differing)
            return
        self._done, self._stage = left["done"], left["stage"]
        step = None if self._stage is None else self._stage["step"]
        log.info("run_goes_on", file=str(self._path), done=sorted(self._done), step=step)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """The result of a part of the run, computed unless it was before.

        Args:
            name: of the part, unique in the run.
            compute: its result may hold dicts, lists, tuples, numbers, strings and tensors.
        """
        if name not in self._done:
            self._done[name] = compute()
            self._stage = None
            self._write()
        result: T = self._done[name]
        return result

    def stage(self, name: str) -> Stage:
        """The state of a loop of the run, by the loop's name."""
        return Stage(self, name)

    def finish(self) -> None:
        """The checkpoint is there: forget the rest."""
        state.forget(self._path)

    def _restore(self, name: str) -> dict[str, Any] | None:
        kept = self._stage
        return kept["parts"] if kept is not None and kept["name"] == name else None

    def _save(self, name: str, step: int, parts: Callable[[], dict[str, Any]]) -> None:
        if time.monotonic() - self._saved_s >= self._every_s:
            self._stage = {"name": name, "step": step, "parts": parts()}
            self._write()

    def _write(self) -> None:
        tree = {"identity": self._identity, "done": self._done, "stage": self._stage}
        state.write(self._path, tree)
        self._saved_s = time.monotonic()


@dataclass(frozen=True)
class Stage:
    """One loop of a run: where it was left, and where to leave it."""

    _run: Run
    name: str

    def restore(self) -> dict[str, Any] | None:
        """What the last `save` of this loop was given; None if it has not begun."""
        return self._run._restore(self.name)

    def save(self, step: int, parts: Callable[[], dict[str, Any]]) -> None:
        """Keep the loop's parts, if enough time has passed since they were kept."""
        self._run._save(self.name, step, parts)


def unkept(name: str) -> Stage:
    """A loop of which nothing is kept on disk: it is over before a kill would cost much."""
    return Run(Path(name), {}, _UNKEPT).stage(name)


def _differing(left: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*left, *mine} if left.get(key) != mine.get(key))
