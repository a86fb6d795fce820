"""Network: everything that is learned, composed into one score.

score(u, a) = <tower_u, tower_a> + IPNN + bias_a
            + <sum of gain(u, i) * source_i over the items i that u met, target_a>
            + sum of weight(u, f) over the ad's feature values f

The first two lines are one inner product of joint vectors, the third is HitMatch. Sources and
targets are the co-occurrences' factors.

Owns the layout of the joint vectors and the standardisation of inputs. Promises that training and
serving call the same four methods: `weigh`, `taste`, `user_vectors`, `ad_vectors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from .hitmatch import HitMatch
from .ipnn import Ipnn
from .statistics import COLUMNS
from .tensors import PeriodTensors, UserTensors
from .towers import AdTower, UserTower, perceptron

# Co-occurrence weights are shares of users; five times that is on the scale of log odds.
_LOG_GAIN = float(np.log(5.0))


@dataclass(frozen=True)
class Terms:
    """Which terms the score has beside the towers' and the bias; all of them, except to measure
    what one is worth. One that is left out has no weights.

    Attributes:
        ipnn: the interactions of fields.
        taste: what the co-occurrences' factors say.
        hits: HitMatch.
    """

    ipnn: bool = True
    taste: bool = True
    hits: bool = True


@dataclass(frozen=True)
class NetworkSettings:
    """Widths, and the terms that have them.

    Attributes:
        width: k, of a field embedding.
        tower: dimensions of a tower's own vector.
        interactions: r, of IPNN.
        hidden: of the towers' perceptrons.
        hit_hidden: of HitMatch's networks.
        factors: R, of the co-occurrence factors.
        terms: of the score.
    """

    width: int = 32
    tower: int = 32
    interactions: int = 2
    hidden: int = 128
    hit_hidden: int = 24
    factors: int = 64
    terms: Terms = Terms()

    @property
    def joint(self) -> int:
        """D, of the vectors whose inner product is scored: towers, IPNN, factors, bias."""
        interactions = self.interactions * self.width if self.terms.ipnn else 0
        return self.tower + interactions + (self.factors if self.terms.taste else 0) + 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """The settings of a manifest, which has no terms if they were not known yet."""
        return cls(**{**values, "terms": Terms(**values.get("terms", {}))})


class Standardise(nn.Module):
    """Shifts and scales inputs to mean 0 and deviation 1 over the training data."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def fit(self, rows: np.ndarray) -> None:
        """Take mean and deviation from [N, inputs] rows."""
        if len(rows):
            self.mean.copy_(torch.from_numpy(rows.mean(axis=0)))
            # A column that never changes must not blow up the first value that does.
            self.scale.copy_(torch.from_numpy(1 / (rows.std(axis=0) + 1e-2)))

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] to the same shape."""
        return (inputs - self.mean) * self.scale


class Network(nn.Module):
    """The retriever's network; F item fields, S columns of HitMatch, N priors."""

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        fields: int,
        profile_fields: int,
        rows: int,
        profile_rows: int,
        statistics: int,
        priors: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.statistics = Standardise(statistics)
        self.known = Standardise(len(COLUMNS))
        self.priors = Standardise(priors)
        terms = settings.terms
        self.hits = (
            HitMatch(fields, statistics + priors, settings.hit_hidden) if terms.hits else None
        )
        self.user_tower = UserTower(
            rows,
            profile_rows,
            fields,
            profile_fields,
            settings.width,
            settings.hidden,
            settings.tower,
        )
        self.ad_tower = AdTower(
            rows, fields, settings.width, priors, settings.hidden, settings.tower
        )
        self.ipnn = (
            Ipnn(profile_fields + fields, fields, settings.interactions) if terms.ipnn else None
        )
        # Reads no embedding of the item itself: that would learn by heart how well an item sold
        # in the weeks of training, which its priors say for any week.
        self.bias = perceptron(
            fields * priors + (fields - 1) * settings.width, settings.hit_hidden, 1
        )
        self.linear_bias = nn.Linear(fields * priors, 1)
        self.log_gain = None
        if terms.taste:
            self.log_gain = perceptron(len(COLUMNS) + priors, settings.hit_hidden, 1)
            for weights in self.log_gain[-1].parameters():
                nn.init.zeros_(weights)

    def groups(self, tower_decay: float) -> list[dict[str, Any]]:
        """All weights for an optimiser; those that tell items and users apart by name decay."""
        decaying = nn.ModuleList((self.user_tower, self.ad_tower, self.bias))
        if self.ipnn is not None:
            decaying.append(self.ipnn)
        named = {id(weights) for weights in decaying.parameters()}
        others = [weights for weights in self.parameters() if id(weights) not in named]
        return [
            {"params": list(decaying.parameters()), "weight_decay": tower_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    def weigh(self, columns: Tensor, priors: Tensor, fields: Tensor) -> Tensor:
        """HitMatch weights of met values.

        Args:
            columns: [K, S] float32 statistics and evidence.
            priors: [K, N] float32 priors of the values.
            fields: [K] int64.

        Returns:
            [K] float32.
        """
        if self.hits is None:
            return columns.new_zeros(len(columns))
        inputs = torch.cat((self.statistics(columns), self.priors(priors)), dim=1)
        weights: Tensor = self.hits(inputs, fields)
        return weights

    def taste(self, users: UserTensors, priors: Tensor, sources: Tensor) -> Tensor:
        """What users' items say together: the sum of their source factors, each with its gain.

        Args:
            users: B users.
            priors: [V, N] float32 priors of the vocabulary's rows.
            sources: [I, R] float32 source factors.

        Returns:
            [B, R] float32; [B, 0] where the network has no such term.
        """
        if self.log_gain is None:
            return sources.new_zeros(users.count, 0)
        of_items = priors[users.rows[users.known]]
        inputs = torch.cat((self.known(users.known_columns), self.priors(of_items)), dim=1)
        weighted = sources[users.sources] * (_LOG_GAIN + self.log_gain(inputs)).exp()
        taste = sources.new_zeros(users.count, sources.shape[1])
        return taste.index_add(0, users.users[users.known], weighted)

    def user_vectors(
        self,
        profile_rows: Tensor,
        users: Tensor,
        fields: Tensor,
        rows: Tensor,
        weights: Tensor,
        taste: Tensor,
    ) -> Tensor:
        """[B, D] joint user vectors; arguments as `UserTower.embed`, taste [B, R]."""
        embedded = self.user_tower.embed(profile_rows, users, fields, rows, weights)
        parts = [self.user_tower(embedded)]
        if self.ipnn is not None:
            parts.append(self.ipnn.user(embedded))
        return torch.cat((*parts, taste, taste.new_ones(len(taste), 1)), dim=1)

    def ad_vectors(self, rows: Tensor, priors: Tensor, factors: Tensor) -> Tensor:
        """Joint ad vectors.

        Args:
            rows: [A, F] int64 vocabulary rows.
            priors: [A, F, N] float32 priors of the values.
            factors: [A, R] float32 target factors.

        Returns:
            [A, D] float32.
        """
        priors = self.priors(priors)
        embedded = self.ad_tower.embed(rows)
        flat = priors.flatten(1)
        others = torch.cat((flat, embedded[:, 1:].flatten(1)), dim=1)
        bias = self.bias(others) + self.linear_bias(flat)
        parts = [self.ad_tower(embedded, priors)]
        if self.ipnn is not None:
            parts.append(self.ipnn.ad(embedded))
        if self.log_gain is not None:
            parts.append(factors)
        return torch.cat((*parts, bias), dim=1)

    def forward(
        self, period: PeriodTensors, users: UserTensors, ad_rows: Tensor | None = None
    ) -> Tensor:
        """Score every ad of a period for B of its users.

        Args:
            period: the period.
            users: the users.
            ad_rows: [A, F] vocabulary rows to use instead of the period's own (with values
                hidden, in training).

        Returns:
            [B, A] float32.
        """
        weights = self.weigh(users.hit_columns, period.priors[users.hit_rows], users.hit_fields)
        width = period.values + 1
        hits = weights.new_zeros(users.count * width)
        hits = hits.index_add(0, users.hit_at, weights)
        hits = hits.view(users.count, width)
        taste = self.taste(users, period.priors, period.sources)
        user = self.user_vectors(
            users.profile_rows, users.users, users.fields, users.rows, users.weights, taste
        )
        ad = self.ad_vectors(
            period.rows if ad_rows is None else ad_rows,
            period.priors[period.rows],
            period.factors,
        )
        # An ad's HitMatch is a bag of its values: six times as fast as adding column by column.
        return user @ ad.T + embedding_bag(period.value_at, hits.T.contiguous(), mode="sum").T
