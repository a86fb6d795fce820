"""The ranker's studies: GESR without one part or another, and with shorter histories.

Owns the slice of the hard set that they learn from and are measured on. Promises that a model
without a part still learns from the same rows in the same number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.features import Encoder
from model.progress import Progress
from model.ranker import configure, try_out
from model.ranker.config import TWO_TOWER, MoaConfig, Parts, RankerConfig
from model.ranker.examples import Examples
from model.ranker.presets import Setup, TrainingConfig
from model.ranker.train import Split

from ...datasets.complete_journey.fields import EVENT_FIELDS
from ...datasets.complete_journey.hard import TEST_WEEK, VALIDATE_WEEK, HardSet, hard_set
from ...datasets.complete_journey.weeks import week_start_ms
from ...training import SCHEMA
from ..ranking import ENGAGE, PRESET, judge
from .sources import identity
from .study import ByUser, Figure, Outcome

# Of the households, one in so many learns and calibrates, and twice as many are measured on.
_LEARNING = 4
# Long histories cost more, and lengths differ by more than parts.
_LEARNING_LENGTHS = 8
# Batches of the preset would be too few steps for a quarter of its rows.
_GROUPS = 48
_LENGTHS = (50, 100, 200, 500, 1000)
# As published with GESR's predecessor (arXiv 2402.17152): of 1,000 events about 250 are read.
_ALPHA = 1.6

# The paper's parts: the derived signals are this project's addition to T_match.
_PAPER = Parts(signals=False)
_PARTS: Final[Mapping[str, tuple[Parts, str]]] = {
    "two_tower": (
        TWO_TOWER,
        "user tower with a summary of the history, item tower, their product",
    ),
    "two_tower_hma": (replace(TWO_TOWER, match=True), "the same, and hard matching (T_match)"),
    "gesr": (_PAPER, "all parts of the paper; T_match of counts alone"),
    "gesr_without_hma": (replace(_PAPER, match=False), "without T_match"),
    "gesr_without_target": (
        replace(_PAPER, self_attention="last"),
        "without target-awareness: all candidates get U_self[-1]",
    ),
    "gesr_without_self_attention": (
        replace(_PAPER, self_attention="none"),
        "without any self-attention",
    ),
    "gesr_without_cross_attention": (
        replace(_PAPER, cross_attention="none"),
        "without either cross-attention",
    ),
    "gesr_without_mlpg": (
        replace(_PAPER, gates=False),
        "without MLPG: one plain MLP reads what all branches read",
    ),
    "gesr_signals": (Parts(), "GESR, and derived signals in T_match: what is served"),
    "two_tower_hma_signals": (
        replace(TWO_TOWER, match=True, signals=True),
        "two towers and hard matching, and derived signals",
    ),
}


@dataclass(frozen=True)
class RankerStudy:
    """Setups of one ranker, and one household in how many learns; see ``Study``."""

    name: str
    reference: str
    setups: Mapping[str, Setup]
    systems: Mapping[str, str]
    about: str
    learning: int

    figures = (
        Figure("ne", "normalised entropy", "nats/nats", falls=True),
        Figure("gauc", "GAUC", "share"),
    )

    @cached_property
    def _unchanging(self) -> Mapping[str, Any]:
        return {
            **identity("ranker"),
            "data": _data().tables.fingerprint(),
            "learning": self.learning,
        }

    def identity(self, system: str) -> Mapping[str, Any]:
        """See ``Study``."""
        config, training = self.setups[system]
        return {**self._unchanging, "model": config.to_dict(), "training": asdict(training)}

    def run(self, system: str, seed: int, progress: Progress) -> Outcome:
        """See ``Study``."""
        config, training = self.setups[system]
        split = _split(config.moa, self.learning)
        trial = try_out(split, (config, replace(training, seed=seed)), SCHEMA, progress)
        rows, held_out = split.examples.rows, split.held_out
        judged = judge(
            trial.probabilities[:, ENGAGE],
            rows.labels[held_out, ENGAGE],
            rows.prefixes.owners[held_out],
        )
        return Outcome(
            {
                "ne": ByUser(judged.entropies, judged.rows),
                "gauc": ByUser(judged.aucs, judged.auc_rows),
            },
            trial.train_s,
            trial.parameters,
        )


def of_parts() -> RankerStudy:
    """GESR and what is left of it without one part or several."""
    config, training = _base()
    return RankerStudy(
        name="ranker",
        reference="gesr",
        setups={
            name: (replace(config, parts=parts), training) for name, (parts, _) in _PARTS.items()
        },
        systems={name: what for name, (_, what) in _PARTS.items()},
        about=_about("All systems have the sizes of preset `small`.", _LEARNING),
        learning=_LEARNING,
    )


def of_history() -> RankerStudy:
    """GESR that reads the newest L events of a history, all or a sample of them in training."""
    config, training = _base()
    setups: dict[str, Setup] = {}
    systems = {}
    for length in _LENGTHS:
        shorter = _reading(config, length)
        setups[f"gesr_{length}"] = shorter, training
        systems[f"gesr_{length}"] = f"the newest {length:,} events"
        setups[f"gesr_{length}_stochastic"] = shorter, replace(training, alpha=_ALPHA)
        systems[f"gesr_{length}_stochastic"] = (
            f"the same; in training about {length ** (_ALPHA / 2):.0f} of a longer history's"
        )
    return RankerStudy(
        name="history",
        reference=f"gesr_{max(_LENGTHS)}",
        setups=setups,
        systems=systems,
        about=_about(
            "`gesr_L` is `gesr` of the study above that knows the newest L events of a user and no "
            "other: match counts count them, and both kinds of attention reach back over them "
            f"(2 layers with a window of L / 2). With stochastic length (alpha {_ALPHA}) training "
            "samples histories; measuring reads them whole. Half of the households have more than "
            "400 events in the year.",
            _LEARNING_LENGTHS,
        ),
        learning=_LEARNING_LENGTHS,
    )


def _about(more: str, learning: int) -> str:
    return (
        f"Learned from the hard set's weeks 10 to {VALIDATE_WEEK - 1} of one household in "
        f"{learning}, in one pass of batches of {_GROUPS} groups, calibrated on weeks "
        f"{VALIDATE_WEEK} to {TEST_WEEK - 1} of the same and measured on the test weeks, "
        f"{TEST_WEEK} to 53, of one household in {learning // 2}. {more}"
    )


@cache
def _base() -> Setup:
    """The preset with the paper's parts, for one short run that never validates."""
    config, training = configure(PRESET, SCHEMA, SCHEMA.carried(EVENT_FIELDS))
    shorter: TrainingConfig = replace(training, epochs=1, groups=_GROUPS, validations=0)
    return replace(config, parts=_PAPER), shorter


def _reading(config: RankerConfig, length: int) -> RankerConfig:
    """The configuration for histories of at most so many events, without unread signals."""
    window = length // config.hstu.layers
    return replace(
        config,
        moa=replace(
            config.moa,
            max_events=length,
            popular=(),
            answered=(),
            answered_in=(),
            affinity=None,
        ),
        hstu=replace(config.hstu, window=window, normaliser=float(window)),
    )


@cache
def _data() -> HardSet:
    return hard_set()


# One: the slice of a history length is big, and its systems run one after another.
@lru_cache(1)
def _split(moa: MoaConfig, learning: int) -> Split:
    """The slice as examples, with the features of a configuration."""
    data = _data()
    household = data.tables.visits["user_id"].to_numpy()
    kept: NDArray[np.bool_] = (household % learning == 0) & ~data.test
    kept |= (household % (learning // 2) == 0) & data.test
    config = replace(_base()[0], moa=moa)
    examples = Examples.from_tables(data.tables, Encoder(SCHEMA), config, kept)
    now_ms = examples.rows.prefixes.now_ms
    learned = now_ms < week_start_ms(VALIDATE_WEEK)
    held_out = now_ms >= week_start_ms(TEST_WEEK)
    return Split(examples, learned, ~learned & ~held_out, held_out)
