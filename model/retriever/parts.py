"""Parts: everything that a retriever's checkpoint holds.

Owns the names of the checkpoint's tensors and the int8 steps of ad vectors. Promises that unpacked
parts are those that were packed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .. import checkpoints
from ..schema import Schema
from .cooccurrence import Cooccurrence
from .network import Network
from .presets import RetrieverSettings
from .priors import COLUMN_NAMES
from .sides import item_factors
from .tensors import HIT_COLUMNS
from .vocabulary import Vocabulary

KIND = "retriever"
# int8 without -128, so that negation stays inside.
LIMIT = 127
_NETWORK, _PAIRS = "network.", "cooccurrence."


@dataclass(frozen=True)
class Parts:
    """Everything a checkpoint holds.

    Attributes:
        settings: of the training run.
        schema: fields.
        network: the weights.
        vocabulary: of item values.
        profiles: of profile and context values.
        cooccurrence: as of the end of the data.
        priors: [V, N] float32 as of the end of the data.
        ad_scales: [D] float32, size of one int8 step in each dimension.
        learned: [P, 2] int64 start and end, in ms, of the periods that the weights were fitted to.
    """

    settings: RetrieverSettings
    schema: Schema
    network: Network
    vocabulary: Vocabulary
    profiles: Vocabulary
    cooccurrence: Cooccurrence
    priors: np.ndarray
    ad_scales: np.ndarray
    learned: np.ndarray

    @classmethod
    def load(cls, folder: Path, schema: Schema | None = None) -> tuple[Parts, str]:
        """The parts of a checkpoint, and its version.

        Args:
            folder: where it was written.
            schema: what it must have been trained on; None accepts its own.

        Raises:
            CheckpointMissing, CheckpointCorrupt, SchemaMismatch: see `checkpoints.read`.
        """
        checkpoint = checkpoints.read(folder, KIND, schema)
        try:
            return cls.unpack(checkpoint), checkpoint.version
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoints.CheckpointCorrupt(
                f"{folder}: not a retriever of this version ({error}); train it again"
            ) from error

    @staticmethod
    def network_for(
        settings: RetrieverSettings, schema: Schema, rows: int, profile_rows: int
    ) -> Network:
        """An untrained network of the right shape."""
        return Network(
            settings.network,
            fields=len(schema.item_fields),
            profile_fields=len(schema.profile_fields) + len(schema.context_fields),
            rows=rows,
            profile_rows=profile_rows,
            statistics=HIT_COLUMNS,
            priors=len(COLUMN_NAMES),
        )

    def ad_vectors(self, items: np.ndarray) -> np.ndarray:
        """[B, F] int64 raw ids to [B, D] float32 joint vectors."""
        rows = self.vocabulary.rows(items)
        with torch.inference_mode():
            vectors: np.ndarray = self.network.ad_vectors(
                torch.from_numpy(rows),
                torch.from_numpy(self.priors[rows]),
                torch.from_numpy(item_factors(items, self.cooccurrence)),
            ).numpy()
        return vectors

    def scaled(self, items: np.ndarray) -> Parts:
        """The same parts with scales that just hold these items' vectors, [B, F] int64."""
        largest = np.abs(self.ad_vectors(items)).max(axis=0, initial=0)
        scales = np.where(largest > 0, largest, 1) / LIMIT
        return replace(self, ad_scales=scales.astype(np.float32))

    def pack(self) -> dict[str, np.ndarray]:
        """Tensors of a checkpoint."""
        weights = {
            _NETWORK + name: tensor.detach().numpy()
            for name, tensor in self.network.state_dict().items()
        }
        pairs = {_PAIRS + name: array for name, array in vars(self.cooccurrence).items()}
        return (
            weights
            | pairs
            | {
                "vocabulary": self.vocabulary.ids,
                "profiles": self.profiles.ids,
                "priors": self.priors,
                "ad_scales": self.ad_scales,
                "learned": self.learned,
            }
        )

    @classmethod
    def unpack(cls, checkpoint: checkpoints.Checkpoint) -> Parts:
        """The inverse of `pack`."""
        settings = RetrieverSettings.from_dict(checkpoint.config)
        schema, tensors = checkpoint.schema, checkpoint.tensors
        vocabulary = Vocabulary(tensors["vocabulary"], len(schema.item_fields))
        profiles = Vocabulary(
            tensors["profiles"], len(schema.profile_fields) + len(schema.context_fields)
        )
        network = cls.network_for(settings, schema, len(vocabulary), len(profiles))
        network.load_state_dict(
            {
                name.removeprefix(_NETWORK): torch.from_numpy(array)
                for name, array in tensors.items()
                if name.startswith(_NETWORK)
            }
        )
        pairs = Cooccurrence(
            **{
                name.removeprefix(_PAIRS): array
                for name, array in tensors.items()
                if name.startswith(_PAIRS)
            }
        )
        return cls(
            settings,
            schema,
            network.eval(),
            vocabulary,
            profiles,
            pairs,
            tensors["priors"],
            tensors["ad_scales"],
            tensors["learned"],
        )
