"""What one GESR ranker is made of: sources, pairs, attention shapes and heads.

Owns the typed configuration that travels inside a checkpoint. Promises that a configuration
which constructs is consistent: every pair and query names a source that exists. Sizes for a
purpose live in ``presets``; how the parts compute is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

TASKS = ("engage", "consume")


@dataclass(frozen=True)
class MatchPair:
    """One Hard Matching Attention pair: a history field against a candidate field.

    ``window_days`` truncates the history by time for this pair alone; None counts all of it.
    """

    history: str
    item: str
    window_days: float | None = None

    def __post_init__(self) -> None:
        if self.window_days is not None and self.window_days <= 0:
            raise ValueError(f"window_days of {self} must be positive or absent")


@dataclass(frozen=True)
class AffinityConfig:
    """The regression of items on items behind the affinity signal.

    Attributes:
        ridge: strength of the regularisation, in users.
        min_users: users who must have met an item for it to take part.
        max_items: at most so many items: those to be scored, then the most popular.
        refit_days: how old a fit may be when a training row reads it, as in serving.
    """

    ridge: float = 600.0
    min_users: int = 10
    max_items: int = 8192
    refit_days: float = 28.0

    def __post_init__(self) -> None:
        _positive(self, "ridge", "min_users", "max_items", "refit_days")


@dataclass(frozen=True)
class MoaConfig:
    """The MoA configuration: RO and NRO sources, how they pair, query and fuse.

    RO sources (``profile``, ``context``, ``history``) are read once per request, NRO sources
    (``item``) once per candidate; all of them share one embedding table.

    Attributes:
        profile, context: RO field names, in the schema's order.
        history: item fields that events carry.
        item: NRO field names, in the schema's order.
        ro_query: fields among profile and context that are sum-pooled into the RO query; may be
            empty where users have neither.
        nro_query: fields among item that are sum-pooled into the NRO query.
        pairs: the listed (RO, NRO) pairs of Hard Matching Attention.
        decay_days: time constants of the decayed match counts, in days.
        popular: fields among history whose popularity and price are derived signals.
        popular_days: windows of them, in days.
        answered: fields among item whose response to being shown is a derived signal.
        answered_days: windows of it, in days.
        answered_in: (context, item) fields whose values' joint response is a derived signal: what
            works on a phone, or in one store.
        answered_in_days: windows of it, in days.
        activity_days: windows of the derived signal of how busy the user was, in days.
        affinity: the regression behind the derived signal of what goes with the items met; None
            leaves it out.
        retrieved: whether the retriever's score of a candidate is a derived signal.
        max_events: the newest events of a history that are read at all.
        table_rows: rows of the shared table; row 0 is the missing value.
        field_width: width of one row of it.
        width: D, the width of tokens and of every MoA output.
        fuse: how a token's fields join: a projected concatenation, or a projected sum.
        match_rows: M, the cap of a match count; a pair owns M + 1 rows.
        match_width: width of one row of the match table.
        signal_bins, signal_width: quantile bins of one derived signal and their width.
        hma_into_attention: add the match embedding to the candidate tokens.
    """

    profile: tuple[str, ...]
    context: tuple[str, ...]
    history: tuple[str, ...]
    item: tuple[str, ...]
    ro_query: tuple[str, ...]
    nro_query: tuple[str, ...]
    pairs: tuple[MatchPair, ...]
    decay_days: tuple[float, ...] = (28.0, 91.0)
    popular: tuple[str, ...] = ()
    popular_days: tuple[float, ...] = (7.0, 28.0, 91.0, 364.0)
    answered: tuple[str, ...] = ()
    answered_days: tuple[float, ...] = (28.0, 182.0)
    answered_in: tuple[tuple[str, str], ...] = ()
    answered_in_days: tuple[float, ...] = (182.0,)
    activity_days: tuple[float, ...] = (7.0, 28.0, 91.0)
    affinity: AffinityConfig | None = None
    retrieved: bool = False
    max_events: int = 1024
    table_rows: int = 65_536
    field_width: int = 16
    width: int = 32
    fuse: Literal["concat", "sum"] = "concat"
    match_rows: int = 16
    match_width: int = 8
    signal_bins: int = 24
    signal_width: int = 4
    hma_into_attention: bool = False

    def __post_init__(self) -> None:
        _subset("history", self.history, self.item)
        _subset("ro_query", self.ro_query, self.profile + self.context)
        _subset("nro_query", self.nro_query, self.item)
        _subset("popular", self.popular, self.history)
        _subset("answered", self.answered, self.item)
        _subset("answered_in", tuple(context for context, _ in self.answered_in), self.context)
        _subset("answered_in", tuple(item for _, item in self.answered_in), self.item)
        _subset("pairs", tuple(pair.history for pair in self.pairs), self.history)
        _subset("pairs", tuple(pair.item for pair in self.pairs), self.item)
        if not self.pairs or not self.nro_query:
            raise ValueError("pairs and nro_query each need at least one entry")
        _positive(self, "max_events", "field_width", "width", "match_rows", "match_width")
        if self.table_rows < 2 or self.signal_bins < 2:
            raise ValueError("table_rows and signal_bins need a row beside the missing value's")

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The distinct (history field, candidate field) of the pairs, in order of appearance."""
        return tuple(dict.fromkeys((pair.history, pair.item) for pair in self.pairs))


@dataclass(frozen=True)
class HstuConfig:
    """The HSTU configurator: depth, heads and how far a row looks back.

    Attributes:
        layers, heads: depth and heads per layer.
        query_width, value_width: d_qk and d_v of one head.
        window: W; a row sees itself and the W events before it.
        normaliser: the one constant that divides the attention sum, in training and serving.
        dropout: on each layer's output, in training only.
    """

    layers: int = 2
    heads: int = 2
    query_width: int = 16
    value_width: int = 16
    window: int = 64
    normaliser: float = 64.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "layers", "heads", "query_width", "value_width", "window", "normaliser")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    @property
    def context(self) -> int:
        """Events before a row that can reach its output: layers x W."""
        return self.layers * self.window


@dataclass(frozen=True)
class Parts:
    """Which parts of GESR take part; all of them, except to measure what one is worth.

    A part that is left out has no parameters and contributes zeros.

    Attributes:
        match: the explicit cross signals, T_match.
        signals: in T_match, the derived signals beside the counts.
        self_attention: `target` sees the history from the candidate; `last` is what the newest
            event has seen, the same for every candidate; or `none`.
        cross_attention: `both`, the `request`'s alone, or `none`.
        gates: MLPG's amplified logits beside the main ones.
    """

    match: bool = True
    signals: bool = True
    self_attention: Literal["target", "last", "none"] = "target"
    cross_attention: Literal["both", "request", "none"] = "both"
    gates: bool = True


TWO_TOWER = Parts(
    match=False, signals=False, self_attention="none", cross_attention="request", gates=False
)
"""User and item towers, the user's with a summary of the history, and an MLP over both."""


@dataclass(frozen=True)
class RankerConfig:
    """A whole GESR ranker.

    Attributes:
        moa, hstu: its two configured parts.
        seeds: m, learnable queries of the RO cross-attention.
        tower_width: width of the user and item towers' outputs.
        overarch_width: hidden width of each overarch branch.
        dropout: on hidden layers of T_match and of the overarch, in training only.
        history_dropout: share of visits that see nothing of what attention has read, in training
            only: then the other parts learn to do without, and attention adds to them.
        task_weights: weights of the losses, in the order of ``TASKS``.
        parts: which parts take part.
    """

    moa: MoaConfig
    hstu: HstuConfig
    seeds: int = 4
    tower_width: int = 32
    overarch_width: int = 64
    dropout: float = 0.0
    history_dropout: float = 0.0
    task_weights: tuple[float, float] = (1.0, 0.5)
    parts: Parts = Parts()

    def __post_init__(self) -> None:
        _positive(self, "seeds", "tower_width", "overarch_width")
        for name in ("dropout", "history_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if min(self.task_weights) < 0 or max(self.task_weights) <= 0:
            raise ValueError(f"task_weights must not be negative or all 0: {self.task_weights}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` restores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RankerConfig:
        """Raises TypeError on an unknown key and ValueError on an inconsistent value."""
        rest = dict(values)
        moa: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in rest.pop("moa").items()
        }
        moa["pairs"] = tuple(MatchPair(**pair) for pair in moa["pairs"])
        moa["answered_in"] = tuple((context, item) for context, item in moa["answered_in"])
        if moa["affinity"] is not None:
            moa["affinity"] = AffinityConfig(**moa["affinity"])
        hstu = HstuConfig(**rest.pop("hstu"))
        rest["task_weights"] = tuple(rest["task_weights"])
        parts = Parts(**rest.pop("parts"))
        return cls(moa=MoaConfig(**moa), hstu=hstu, parts=parts, **rest)


def _subset(name: str, names: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    unknown = [field for field in names if field not in allowed]
    if unknown:
        raise ValueError(f"{name} names {unknown}; the sources are {list(allowed)}")


def _positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")
