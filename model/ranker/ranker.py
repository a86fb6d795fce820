"""Serving a ranker: one request and its candidates in, calibrated probabilities out.

Owns the loaded model. Promises that a candidate's probabilities depend on nothing of the other
candidates, that only events strictly before the request's time are read, and that no request
leaves anything behind. How many threads torch uses is the process's to set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoints import CheckpointCorrupt, read
from ..features import Request
from ..schema import Schema
from .affinity import score_prefixes
from .calibration import Platt
from .config import RankerConfig
from .gesr import Gesr
from .inputs import Inputs
from .matches import Events, Floats, HardMatcher, Ints, Prefixes
from .signals import Statistics, derive

KIND = "ranker"

Tensors = dict[str, npt.NDArray[np.generic]]
_MODEL, _STATISTICS = "model.", "statistics."
_SLOPE, _OFFSET = "calibration.slope", "calibration.offset"


class Ranker:
    """GESR with its statistics of everybody and its calibration."""

    def __init__(
        self,
        schema: Schema,
        model: Gesr,
        statistics: Statistics,
        calibration: Platt,
        version: str = "untrained",
    ) -> None:
        """Serve a model; it is put into evaluation mode."""
        self.schema = schema
        self.version = version
        self.config: RankerConfig = model.config
        self.model = model.eval()
        self.statistics = statistics
        self.calibration = calibration
        moa = self.config.moa
        self._history_columns = [schema.item_fields.index(name) for name in moa.history]
        self._item = moa.history.index(schema.item_fields[0])

    @classmethod
    def load(cls, folder: Path, schema: Schema | None = None) -> Ranker:
        """Load a checkpoint.

        Args:
            folder: where ``train_ranker`` wrote it.
            schema: what it must have been trained on; None accepts its own.

        Raises:
            CheckpointMissing, CheckpointCorrupt, SchemaMismatch: see ``model.checkpoints``.
        """
        checkpoint = read(folder, KIND, schema)
        try:
            config = RankerConfig.from_dict(checkpoint.config["model"])
            model = Gesr(config, actions=len(checkpoint.schema.actions) + 1)
            statistics, calibration = unpack(checkpoint.tensors, model)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointCorrupt(
                f"{folder}: not a ranker of this version ({error}); train it again"
            ) from error
        return cls(checkpoint.schema, model, statistics, calibration, checkpoint.version)

    def score(self, request: Request, items: Ints, retrieval: Floats | None = None) -> Floats:
        """Probabilities of each candidate.

        Args:
            request: one user's side; events at or after its time are ignored.
            items: [N, F] int64 raw ids in the order of the schema's item fields.
            retrieval: [N] float32, what the retriever gave them; a ranker that did not learn from
                it does not read it, and one that did can do without.

        Returns:
            [N, 2] float32: engage, consume.
        """
        if not len(items):
            return np.zeros((0, len(self.calibration.slope)), np.float32)
        with torch.inference_mode():
            scores = self.model(self._inputs(request, items, retrieval))
        return self.calibration.apply(scores.logits[0].numpy())

    def _inputs(self, request: Request, items: Ints, retrieval: Floats | None) -> Inputs:
        moa = self.config.moa
        history = request.history.before(request.now_ms).newest(moa.max_events)
        ids = history.items[:, self._history_columns]
        owners = np.zeros(len(history), np.int64)
        events = Events(owners, history.time_ms, ids, history.values)
        rows = np.zeros(len(items), np.int64)
        prefixes = Prefixes(rows, rows, rows + len(history), rows + request.now_ms)
        counts, signals = derive(
            HardMatcher(events, moa.pairs, moa.history, moa.item, moa.decay_days),
            events,
            prefixes,
            items,
            self.statistics.population(items, np.tile(request.context, (len(items), 1)), moa),
            self._affinities(events, prefixes, items),
            retrieval,
            moa,
        )
        near = history.newest(self.config.hstu.context)
        return Inputs(
            history=_events(ids[len(history) - len(near) :]),
            actions=_events(near.actions.astype(np.int64)),
            values=_events(near.values),
            time_s=_events(near.time_ms / 1000.0),
            rows=torch.zeros(1, dtype=torch.int64),
            prefixes=torch.tensor([len(near)]),
            now_s=torch.tensor([request.now_ms / 1000.0], dtype=torch.float64),
            profile=_one(request.profile),
            context=_one(request.context),
            items=_one(items),
            counts=_one(counts),
            signals=_one(signals),
        )

    def _affinities(self, events: Events, prefixes: Prefixes, items: Ints) -> Floats:
        table = self.statistics.affinity
        if table is None:
            return np.zeros((len(items), 0), np.float32)
        return score_prefixes(lambda _: table, events, self._item, prefixes, items[:, 0])


def pack(model: Gesr, calibration: Platt, statistics: Statistics) -> Tensors:
    """A checkpoint's tensors."""
    return {
        **{_MODEL + name: tensor.numpy() for name, tensor in model.state_dict().items()},
        **{_STATISTICS + name: array for name, array in statistics.tensors().items()},
        _SLOPE: calibration.slope,
        _OFFSET: calibration.offset,
    }


def unpack(tensors: Mapping[str, npt.NDArray[np.generic]], model: Gesr) -> tuple[Statistics, Platt]:
    """The inverse of ``pack``: fills the model, returns the rest.

    Raises:
        KeyError, RuntimeError: a tensor is missing or of another shape.
    """
    moa = model.config.moa
    weights = {
        name.removeprefix(_MODEL): torch.from_numpy(array)
        for name, array in tensors.items()
        if name.startswith(_MODEL)
    }
    model.load_state_dict(weights)
    parts = {
        name.removeprefix(_STATISTICS): array
        for name, array in tensors.items()
        if name.startswith(_STATISTICS)
    }
    statistics = Statistics.from_tensors(parts, moa)
    calibration = Platt(tensors[_SLOPE].astype(np.float64), tensors[_OFFSET].astype(np.float64))
    return statistics, calibration


def _events(array: npt.NDArray[np.generic]) -> Tensor:
    """A history as a batch of one; an empty one is padded by an event that no prefix reads."""
    return _one(array if len(array) else np.zeros((1, *array.shape[1:]), array.dtype))


def _one(array: npt.NDArray[np.generic]) -> Tensor:
    """One request's array as a batch of one."""
    return torch.from_numpy(np.ascontiguousarray(array))[None]
