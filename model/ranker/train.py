"""Training: one ranker from tables to a checkpoint.

Owns the loop, the loss and the held-out judgement. Promises that the newest visits calibrate
the model and judge it, and never train it; and the same weights from the same tables, preset
and number of threads. Presets choose the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor, nn

from ..checkpoints import write
from ..features import Encoder
from ..progress import Progress, silent
from ..schema import Schema
from ..tables import TablesInvalid, TrainingTables
from .batches import Batch, Batches
from .calibration import Platt
from .config import TASKS, RankerConfig
from .examples import Examples
from .gesr import Gesr
from .inputs import Inputs
from .matches import DAY_MS, Floats, Ints
from .metrics import grouped_auc, normalised_entropy
from .presets import Preset, TrainingConfig, configure
from .ranker import KIND, pack
from .sampling import newest_visits, sample_negatives
from .warm_start import warm_start

log = structlog.get_logger(__name__)

# Share of the steps in which the learning rate rises: Adam's averages settle meanwhile.
WARM_UP = 0.1
# Norm that a step's gradient is cut to; a batch of rare positives exceeds it now and then.
MAX_GRADIENT = 1.0


def train_ranker(
    tables: TrainingTables,
    schema: Schema,
    preset: Preset,
    out: Path,
    progress: Progress = silent,
) -> dict[str, float]:
    """Train a ranker and write its checkpoint.

    Args:
        tables: one period of data; its newest visits are held out.
        schema: the fields to learn from.
        preset: "tiny" or "demo".
        out: the checkpoint's folder, replaced if it exists.
        progress: told after every batch.

    Returns:
        Held-out metrics: per task ne and gauc (by user), base_rate, calibration (mean
        prediction over rate); mean and standard deviation of each gate; rows of both parts.

    Raises:
        TablesInvalid: a column is missing, or there is no event or no visit.
    """
    tables.check(schema)
    if not tables.events.num_rows or not tables.visits.num_rows:
        raise TablesInvalid("events and visits must each have at least one row")
    history = [name for name in schema.item_fields if name in tables.events.column_names]
    config, training = configure(preset, schema, history)

    with _seeded(training.seed):
        examples, held_out = prepare(tables, Encoder(schema), config, training)
        model = Gesr(config, actions=len(schema.actions) + 1)
        events = examples.histories.events
        # The schema's first item field names the item itself.
        item = config.moa.history.index(schema.item_fields[0])
        warm_start(model.moa.embedding, events.owners, events.ids[:, item])
        context = config.hstu.context
        fit_model(model, Batches(examples, ~held_out, context, training.groups), training, progress)
        logits, gates = predict(
            model, Batches(examples, held_out, context, training.groups), len(examples.rows)
        )

    rows = examples.rows
    labels, users = rows.labels[held_out], rows.prefixes.owners[held_out]
    calibration = Platt.fit(logits[held_out], labels)
    metrics = {
        "rows": float((~held_out).sum()),
        "held_out_rows": float(held_out.sum()),
        **judge(calibration.apply(logits[held_out]), labels, users),
        **gates,
    }
    version = write(
        out,
        kind=KIND,
        schema=schema,
        config={"model": config.to_dict(), "training": asdict(training)},
        metrics=metrics,
        data_window=tables.window(),
        tensors=pack(model, calibration, examples.popularity),
    )
    log.info("ranker_trained", version=version, **{k: round(v, 4) for k, v in metrics.items()})
    return metrics


def prepare(
    tables: TrainingTables, encoder: Encoder, config: RankerConfig, training: TrainingConfig
) -> tuple[Examples, npt.NDArray[np.bool_]]:
    """Examples, and which of their rows are held out: [N] bool, the newest visits.

    Training rows have a sample of the negatives. Held-out rows are all that the tables have, so
    that calibration fits the tables' own rates.

    Raises:
        TablesInvalid: every visit is held out.
    """
    now_ms = tables.visits["time_ms"].to_numpy()
    split_ms = int(now_ms.max()) - int(training.held_out_days * DAY_MS) + 1
    if now_ms.min() >= split_ms:
        raise TablesInvalid(
            f"visits span no more than the {training.held_out_days:g} days that are held out"
        )
    if training.max_visits is not None:
        tables = newest_visits(tables, now_ms < split_ms, training.max_visits)
        now_ms = tables.visits["time_ms"].to_numpy()
    sampled = sample_negatives(tables, now_ms >= split_ms, training.negatives, training.seed)
    examples = Examples.from_tables(sampled, encoder, config)
    return examples, examples.rows.prefixes.now_ms >= split_ms


def fit_model(
    model: Gesr, batches: Batches, training: TrainingConfig, progress: Progress = silent
) -> None:
    """Minimise the weighted log loss of the tasks; leaves the model in evaluation mode."""
    order = np.random.default_rng(training.seed)
    plan = [units for _ in range(training.epochs) for units in batches.plan(order)]
    optimiser = torch.optim.AdamW(
        _parameter_groups(model, training.weight_decay), lr=training.learning_rate, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=len(plan) + 1, pct_start=WARM_UP
    )
    weights = torch.tensor(model.config.task_weights)
    model.train()
    for step, units in enumerate(plan, start=1):
        batch = batches.build(units)
        inputs = _drop_context(batch.inputs, training.context_dropout)
        loss = task_loss(model(inputs).logits, batch, weights)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
        optimiser.step()
        schedule.step()
        progress(step, len(plan), loss.item())
    model.eval()


def task_loss(logits: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    """Mean over candidates of the tasks' weighted log losses.

    Args:
        logits: [V, G, tasks].
        batch: labels of the same shape, and which candidates are real.
        weights: [tasks].
    """
    losses = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none")
    per_candidate = (losses * weights).sum(-1) * batch.weights
    return per_candidate.sum() / batch.weights.sum()


def predict(model: Gesr, batches: Batches, rows: int) -> tuple[Floats, dict[str, float]]:
    """Logits of the batches' rows, and how their gates stood.

    Returns:
        [rows, tasks] float32, 0 for a row that is in no batch, and mean and standard deviation
        of each gated branch: a mean of one half with no deviation says that it is idle.
    """
    logits = np.zeros((rows, len(TASKS)), np.float32)
    gates: list[list[Tensor]] = []
    with torch.inference_mode():
        for units in batches.plan():
            batch = batches.build(units)
            scores = model(batch.inputs)
            real = batch.rows >= 0
            logits[batch.rows[real]] = scores.logits.numpy()[real]
            gates.append([gate[torch.from_numpy(real)] for gate in scores.gates])
    statistics = {}
    for branch, parts in enumerate(zip(*gates, strict=True)):
        gate = torch.cat(parts)
        statistics[f"gate_{branch}_mean"] = gate.mean().item()
        statistics[f"gate_{branch}_std"] = gate.std().item()
    return logits, statistics


def judge(probabilities: Floats, labels: Floats, users: Ints) -> dict[str, float]:
    """Held-out metrics per task: base_rate, calibration (mean prediction over it), ne, gauc.

    One that is not defined, as where no label is positive, is left out.

    Args:
        probabilities, labels: [N, tasks].
        users: [N], the groups of the AUC.
    """
    metrics = {}
    for t, task in enumerate(TASKS):
        p, y = probabilities[:, t], labels[:, t]
        rate = float(y.mean())
        metrics[f"{task}_base_rate"] = rate
        metrics[f"{task}_calibration"] = float(p.mean()) / rate if rate else math.nan
        metrics[f"{task}_ne"] = normalised_entropy(p, y)
        metrics[f"{task}_gauc"] = grouped_auc(p, y, users)
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms and the seeds' like do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _drop_context(inputs: Inputs, share: float) -> Inputs:
    """Hide the context of a random share of the visits."""
    shown = torch.rand(len(inputs.context), 1) >= share
    return replace(inputs, context=inputs.context * shown)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch for the block, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
