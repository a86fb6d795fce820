"""Target-aware self-attention: an HSTU stack in which candidates see history and themselves.

Owns the layers and their one mask (GESR, arXiv 2511.21095, target-aware self-attention; HSTU,
arXiv 2402.17152). Promises that a history row depends only on itself and the W events before
it, per layer, and never on candidates or on the request, so that its keys and values can be
cached; and that candidates never see each other. Position is relative, time is each event's
own, and one constant divides the sums in training and serving.

Shapes: B histories of S events, padded on the right; V visits, each reading one history up to
its own prefix, with G candidates; D width, h heads, q and v widths of a head, W window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .config import HstuConfig

# Buckets of |time difference| in seconds, as published: natural logarithm over 0.301.
TIME_BUCKETS = 129
BUCKET_LOG = 0.301
BIAS_STD = 0.02
EPSILON = 1e-6


@dataclass(frozen=True)
class Windows:
    """For each visit, the events right before it.

    Attributes:
        rows: [V] int64, the history that each visit reads.
        events: [V, W] int64, positions in that history, oldest first; clamped at 0.
        mask: [V, W] bool, False where the prefix is shorter than the window.
    """

    rows: Tensor
    events: Tensor
    mask: Tensor

    @classmethod
    def before(cls, rows: Tensor, prefixes: Tensor, size: int) -> Windows:
        """The last ``size`` events of each prefix. rows, prefixes: [V] int64."""
        events = prefixes[:, None] - size + torch.arange(size, device=prefixes.device)
        return cls(rows, events.clamp(min=0), events >= 0)

    def gather(self, history: Tensor) -> Tensor:
        """[B, S, ...] -> [V, W, ...]; masked places hold an arbitrary event."""
        return history[self.rows[:, None], self.events]


def time_bucket(seconds: Tensor) -> Tensor:
    """[...] float32 seconds -> [...] int64 bucket in 0..128."""
    log = torch.log(seconds.abs().clamp(min=1.0)) / BUCKET_LOG
    return log.long().clamp(max=TIME_BUCKETS - 1)


class RelativeBias(nn.Module):
    """A bias per head for the distance in events, 0..W, and for the time between them."""

    def __init__(self, window: int, heads: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(window + 1, heads).normal_(std=BIAS_STD))
        self.time = nn.Parameter(torch.empty(TIME_BUCKETS, heads).normal_(std=BIAS_STD))

    def forward(self, distance: Tensor, buckets: Tensor) -> Tensor:
        """distance, broadcastable to buckets [...] -> [..., h]."""
        position = nn.functional.embedding(distance, self.position)
        return position + nn.functional.embedding(buckets, self.time)


@dataclass(frozen=True)
class LayerMemory:
    """What one layer remembers of the histories: keys [B, S, h, q] and values [B, S, h, v]."""

    keys: Tensor
    values: Tensor


class HstuLayer(nn.Module):
    """X' = X + dropout((LN(A V) * U) W2), A = SiLU(Q K^T + bias) / n * mask; no softmax."""

    def __init__(self, width: int, config: HstuConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.window = config.window
        self.normaliser = config.normaliser
        self.split = [
            config.heads * size
            for size in (
                config.value_width,
                config.value_width,
                config.query_width,
                config.query_width,
            )
        ]
        self.norm_in = nn.LayerNorm(width, eps=EPSILON)
        self.project_in = nn.Linear(width, sum(self.split))
        self.norm_out = nn.LayerNorm(config.heads * config.value_width, eps=EPSILON)
        self.project_out = nn.Linear(config.heads * config.value_width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.bias = RelativeBias(config.window, config.heads)

    def history(self, x: Tensor, buckets: Tensor) -> tuple[Tensor, LayerMemory]:
        """Run the history rows, in chunks of W that see their own chunk and the one before.

        Args:
            x: [B, S, D], S a multiple of W; or one chunk of fewer.
            buckets: [B, S / W, W, 2W] time buckets, see ``Hstu.history_buckets``.

        Returns:
            [B, S, D], and the keys and values that later rows and candidates read.
        """
        gate, value, query, key = self._project(x)  # [B, S, h, v | v | q | q]
        chunk = buckets.shape[2]
        chunks = (x.shape[0], -1, chunk, self.heads)
        query = query.reshape(*chunks, query.shape[-1])  # [B, C, W, h, q]
        keys, values = (_with_previous(t.reshape(*chunks, t.shape[-1])) for t in (key, value))
        distance, mask = band(chunk, query.shape[1], x.device)
        scores = torch.einsum("bcihq,bcjhq->bchij", query, keys)  # [B, C, h, W, 2W]
        bias = self.bias(distance, buckets)  # [B, C, W, 2W, h]
        weights = self._weigh(scores + bias.movedim(-1, 2)) * mask[:, None]
        mixed = torch.einsum("bchij,bcjhv->bcihv", weights, values).reshape(value.shape)
        return self._update(x, gate, mixed), LayerMemory(key, value)

    def remember(self, x: Tensor) -> LayerMemory:
        """Keys and values alone, for the last layer: nothing reads its history rows. [B, S, D]."""
        _, value, _, key = self._project(x)
        return LayerMemory(key, value)

    def candidates(
        self, x: Tensor, memory: LayerMemory, windows: Windows, buckets: Tensor
    ) -> Tensor:
        """Run candidate rows over their visit's window and themselves.

        Args:
            x: [V, G, D].
            memory: this layer's, of the whole histories.
            windows: size W, or less where no prefix is as long.
            buckets: [V, W] time buckets from each event to the visit.
        """
        gate, value, query, key = self._project(x)  # [V, G, h, v | v | q | q]
        keys, values = windows.gather(memory.keys), windows.gather(memory.values)  # [V, W, h, .]
        # The newest event is at distance 1: a candidate stands right after its prefix.
        distance = torch.arange(buckets.shape[1], 0, -1, device=x.device)
        bias = self.bias(distance, buckets).movedim(-1, 1)[:, :, None]  # [V, h, 1, W]
        scores = torch.einsum("nghq,nwhq->nhgw", query, keys)
        weights = self._weigh(scores + bias) * windows.mask[:, None, None]
        mixed = torch.einsum("nhgw,nwhv->nghv", weights, values)
        itself = (query * key).sum(-1) + self.bias.position[0] + self.bias.time[0]  # [V, G, h]
        mixed = mixed + self._weigh(itself)[..., None] * value
        return self._update(x, gate, mixed)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        projected = nn.functional.silu(self.project_in(self.norm_in(x)))
        return tuple(
            part.unflatten(-1, (self.heads, -1)) for part in projected.split(self.split, -1)
        )

    def _weigh(self, scores: Tensor) -> Tensor:
        return nn.functional.silu(scores) / self.normaliser

    def _update(self, x: Tensor, gate: Tensor, mixed: Tensor) -> Tensor:
        out = self.norm_out(mixed.flatten(-2)) * gate.flatten(-2)
        updated: Tensor = x + self.dropout(self.project_out(out))
        return updated


class Hstu(nn.Module):
    """The stack. ``remember`` is the history's half, ``attend`` the candidates'."""

    def __init__(self, width: int, config: HstuConfig) -> None:
        super().__init__()
        self.window = config.window
        self.layers = nn.ModuleList(HstuLayer(width, config) for _ in range(config.layers))

    @property
    def stack(self) -> list[HstuLayer]:
        """The layers, the first one first."""
        return [cast(HstuLayer, layer) for layer in self.layers]

    def remember(self, tokens: Tensor, time_s: Tensor) -> list[LayerMemory]:
        """Keys and values of every layer.

        Args:
            tokens: [B, S, D], any S.
            time_s: [B, S] float64 seconds, not decreasing within a history.
        """
        x, buckets = self._chunks(tokens, time_s)
        *inner, last = self.stack
        memory = []
        for layer in inner:
            x, remembered = layer.history(x, buckets)
            memory.append(remembered)
        return [*memory, last.remember(x)]

    def rows(self, tokens: Tensor, time_s: Tensor) -> Tensor:
        """What each event has seen when the stack is done, as in ``remember``. [B, S, D]."""
        x, buckets = self._chunks(tokens, time_s)
        for layer in self.stack:
            x, _ = layer.history(x, buckets)
        return x[:, : tokens.shape[1]]

    def attend(
        self,
        tokens: Tensor,
        memory: list[LayerMemory],
        time_s: Tensor,
        windows: Windows,
        now_s: Tensor,
    ) -> Tensor:
        """Target-aware embeddings of the candidates.

        Args:
            tokens: [V, G, D].
            memory: of ``remember``.
            time_s: [B, S] float64, as given to ``remember``.
            windows: size W, or less where no prefix is as long.
            now_s: [V] float64, the visits' times.

        Returns:
            [V, G, D].
        """
        buckets = time_bucket((now_s[:, None] - windows.gather(time_s)).float())
        x = tokens
        for layer, remembered in zip(self.stack, memory, strict=True):
            x = layer.candidates(x, remembered, windows, buckets)
        return x

    def _chunks(self, tokens: Tensor, time_s: Tensor) -> tuple[Tensor, Tensor]:
        """Histories padded to whole chunks, and their buckets; one within the window is a chunk."""
        chunk = min(self.window, tokens.shape[1])
        pad = -tokens.shape[1] % chunk
        buckets = self.history_buckets(nn.functional.pad(time_s, (0, pad)), chunk)
        return nn.functional.pad(tokens, (0, 0, 0, pad)), buckets

    def history_buckets(self, time_s: Tensor, chunk: int) -> Tensor:
        """Buckets of each row's own time against its band. [B, S] -> [B, S / W, W, 2W]."""
        chunks = time_s.unflatten(1, (-1, chunk))  # [B, C, W]
        return time_bucket((chunks[..., None] - _with_previous(chunks)[:, :, None]).float())


def band(window: int, chunks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Distances within a chunk's band, and which of them a row may see.

    Returns:
        [W, 2W] int64 distance in events, clamped to 0..W, and [C, W, 2W] bool.
    """
    row = torch.arange(window, device=device)[:, None] + window
    column = torch.arange(2 * window, device=device)
    distance = row - column
    seen = (distance >= 0) & (distance <= window)
    first = torch.arange(chunks, device=device)[:, None, None] == 0
    return distance.clamp(0, window), seen & ~(first & (column < window))


def _with_previous(chunks: Tensor) -> Tensor:
    """[B, C, W, ...] -> [B, C, 2W, ...]: each chunk after the one before it, zeros at first."""
    previous = torch.cat([torch.zeros_like(chunks[:, :1]), chunks[:, :-1]], 1)
    return torch.cat([previous, chunks], 2)
