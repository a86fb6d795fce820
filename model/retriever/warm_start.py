"""Warm start: a network begins with the weights of a checkpoint, whatever values are new since.

Owns the way of a row from one vocabulary's table to another's. Promises that a network started on
the checkpoint's own vocabulary equals it. The rows of new values stay as they are: by chance.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import CheckpointMismatch
from .network import Network
from .parts import Parts
from .vocabulary import Vocabulary

# The tables that have a row for each value; all other weights have fixed shapes.
_ITEM_TABLES = ("user_tower.history.weight", "ad_tower.ads.weight")
_PROFILE_TABLES = ("user_tower.profile.weight",)


def warm_start(network: Network, vocabulary: Vocabulary, profiles: Vocabulary, base: Parts) -> None:
    """Overwrite a network's weights and buffers with those of a checkpoint.

    Args:
        network: whose tables have the rows of `vocabulary` and `profiles`.
        vocabulary, profiles: hold at least the base's values.
        base: the checkpoint.

    Raises:
        CheckpointMismatch: it has other widths.
    """
    weights, mine = base.network.state_dict(), network.state_dict()
    for names, old, new in (
        (_ITEM_TABLES, base.vocabulary, vocabulary),
        (_PROFILE_TABLES, base.profiles, profiles),
    ):
        at = torch.from_numpy(_rows(old, new))
        for name in names:
            weights[name] = _placed(weights[name], at, mine[name])
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointMismatch(f"cannot start from that checkpoint: {error}") from error


def _rows(old: Vocabulary, new: Vocabulary) -> np.ndarray:
    """[len(old)] int64: where each row has gone; the rows of unknown values come last."""
    return np.concatenate((np.searchsorted(new.ids, old.ids), len(new.ids) + np.arange(old.fields)))


def _placed(rows: Tensor, at: Tensor, table: Tensor) -> Tensor:
    if rows.shape[1:] != table.shape[1:]:
        return rows
    return table.index_copy(0, at, rows)
