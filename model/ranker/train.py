"""Training: one ranker from tables to a checkpoint.

Owns the loss, the division of the visits and the held-out judgement. Promises that the newest
visits calibrate the model and judge it before they are learned from, if they ever are; and the same
weights from the same tables, preset and number of threads. Presets choose the sizes, steps are
taken in `model.training`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor, nn

from ..checkpoints import write
from ..features import Encoder
from ..progress import Progress, Pulse, silent
from ..schema import Schema
from ..tables import RETRIEVAL, TablesInvalid, TrainingTables
from ..training import (
    DEFAULTS,
    Curve,
    Gates,
    Options,
    Reliability,
    Report,
    Rules,
    Run,
    Stage,
    fit,
    one_cycle,
    pick_device,
    to_device,
)
from .batches import Batch, Batches
from .calibration import Platt
from .config import TASKS, RankerConfig
from .examples import Examples
from .gesr import Gesr
from .inputs import Inputs
from .matches import DAY_MS, Floats, Ints
from .metrics import grouped_auc, normalised_entropy
from .presets import Preset, Setup, TrainingConfig, configure
from .ranker import KIND, pack
from .sampling import newest_visits, sample_negatives, thin_negatives
from .signals import contextual
from .thinning import Thinning
from .warm_start import go_on_from, warm_start

log = structlog.get_logger(__name__)


def train_ranker(
    tables: TrainingTables,
    schema: Schema,
    preset: Preset | Setup,
    out: Path,
    progress: Progress = silent,
    options: Options = DEFAULTS,
) -> dict[str, float]:
    """Train a ranker and write its checkpoint.

    Args:
        tables: one period of data; its newest visits are held out.
        schema: the fields to learn from.
        preset: by name, or a configuration of the caller's own.
        out: the checkpoint's folder, replaced if it exists.
        progress: told after every batch.
        options: where to begin, and whether to go on with a run that was killed.

    Returns:
        Metrics of the held-out visits before they are learned from: per task ne and gauc (by
        user), base_rate, calibration (mean prediction over rate); mean and standard deviation of
        each gate; rows of both parts; and the seconds that it took, of a run that was killed those
        since it was taken up again.

    Raises:
        TablesInvalid: a column is missing, or there is no event or no visit.
        CheckpointError: the checkpoint to start from cannot be used.
    """
    tables.check(schema)
    if not tables.events.num_rows or not tables.visits.num_rows:
        raise TablesInvalid("events and visits must each have at least one row")
    began_s = time.monotonic()
    if isinstance(preset, str):
        config, training = configure(
            preset,
            schema,
            schema.carried(tables.events.column_names),
            retrieved=RETRIEVAL in tables.visits.column_names,
        )
    else:
        config, training = preset
    settings = {"model": config.to_dict(), "training": asdict(training)}
    run = Run(out, _identity(tables, schema, settings, options), options)

    with seeded(training.seed):
        split = prepare(tables, Encoder(schema), config, training, options.since_ms)
        examples = split.examples
        if options.base is None:
            model = fresh_model(split, config, schema)
        else:
            model = Gesr(config, actions=len(schema.actions) + 1)
            go_on_from(options.base, schema, model)
        fitted = run.once(
            "fitted",
            lambda: {
                "curve": vars(fit_model(model, split, training, run.stage("fit"), progress)),
                # Clones: the run writes them again while a refit changes the model's own.
                "model": {name: value.clone() for name, value in model.state_dict().items()},
            },
        )
        curves = {"fit": Curve(**fitted["curve"])}
        model.load_state_dict(fitted["model"])
        held_out, rows = split.held_out, examples.rows
        labels, users = rows.labels[held_out], rows.prefixes.owners[held_out]
        every, gates = predict(model.eval(), split.batches(held_out, config, training))
        logits = every[held_out]
        if model.trust is not None:
            logits = model.trust.fit(logits, rows.signals[held_out], labels, rows.visits[held_out])
        if training.refit:
            curves["refit"] = refit_model(model, split, training, run.stage("refit"))

    calibration = Platt.fit(logits, labels)
    probabilities = calibration.apply(logits)
    metrics = {
        "rows": float(split.train.sum()),
        "held_out_rows": float(held_out.sum()),
        **judge(probabilities, labels, users),
        **{f"gate_{at}_mean": gate.mean for at, gate in enumerate(gates)},
        **{f"gate_{at}_std": gate.std for at, gate in enumerate(gates)},
        "train_s": time.monotonic() - began_s,
    }
    report = Report(
        title=f"{KIND}, {preset if isinstance(preset, str) else 'own configuration'}",
        curves=curves,
        metrics=metrics,
        validation="loss on the validation visits",
        calibration={
            task: Reliability.of(probabilities[:, at], labels[:, at])
            for at, task in enumerate(TASKS)
        },
        gates={f"gate {at}": gate for at, gate in enumerate(gates)},
        facts={"data_window": tables.window(), "options": options.to_dict()},
    )
    version = write(
        out,
        kind=KIND,
        schema=schema,
        config=settings,
        metrics=metrics,
        data_window=options.window(tables.window()),
        tensors=pack(model, calibration, examples.everybody.freeze()),
        report=report.files(),
    )
    run.finish()
    log.info("ranker_trained", version=version, **{k: round(v, 4) for k, v in metrics.items()})
    return metrics


def _identity(
    tables: TrainingTables, schema: Schema, settings: dict[str, Any], options: Options
) -> dict[str, Any]:
    """Everything that decides which steps the run takes."""
    return {
        "schema": schema.hash,
        **settings,
        "data": tables.fingerprint(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **options.identity(),
    }


@dataclass(frozen=True)
class Split:
    """Examples, and what each of their rows is for: [N] bool.

    No row is learned from and used for another purpose.

    Attributes:
        examples: all of them.
        train: learned from.
        validation: say when to stop; the held-out rows, where the configuration sets no others
            aside.
        held_out: the newest, for calibration and metrics.
    """

    examples: Examples
    train: npt.NDArray[np.bool_]
    validation: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]

    def batches(
        self, rows: npt.NDArray[np.bool_], config: RankerConfig, training: TrainingConfig
    ) -> Batches:
        """Some of the rows as batches."""
        thinning = Thinning(config.moa.max_events, training.alpha) if training.alpha < 2 else None
        return Batches(
            self.examples,
            rows,
            config.hstu.context,
            training.groups,
            training.visit_balance,
            thinning,
        )


def prepare(
    tables: TrainingTables,
    encoder: Encoder,
    config: RankerConfig,
    training: TrainingConfig,
    since_ms: int | None = None,
) -> Split:
    """Divide the visits by time, and encode them.

    Training and validation rows have a sample of the negatives. Held-out rows are all that the
    tables have, so that calibration fits the tables' own rates.

    Args:
        tables, encoder, config, training: of the run.
        since_ms: visits before it are history alone.

    Raises:
        TablesInvalid: no visit is left to learn from.
    """
    now_ms = tables.visits["time_ms"].to_numpy()
    end_ms = int(now_ms.max(initial=0)) + 1
    split_ms = end_ms - int(training.held_out_days * DAY_MS)
    stop_ms = split_ms - int(training.validation_days * DAY_MS)
    chosen = np.ones(len(now_ms), np.bool_) if since_ms is None else now_ms >= since_ms
    if training.max_visits is not None:
        chosen &= newest_visits(tables, chosen & (now_ms < split_ms), training.max_visits)
    chosen = sample_negatives(tables, chosen, now_ms >= split_ms, training.negatives, training.seed)
    if not (chosen & (now_ms < stop_ms)).any():
        raise TablesInvalid(
            f"no visit is left to learn from before the {training.held_out_days:g} days that are "
            f"held out and the {training.validation_days:g} days of validation"
        )
    examples = Examples.from_tables(tables, encoder, config, chosen)
    now_ms = examples.rows.prefixes.now_ms
    held_out = now_ms >= split_ms
    validation = (now_ms >= stop_ms) & ~held_out
    if training.validations and not training.validation_days:
        validation = held_out
    return Split(examples, now_ms < stop_ms, validation, held_out)


def fresh_model(split: Split, config: RankerConfig, schema: Schema) -> Gesr:
    """A model before its first step.

    Events before the first training row warm the table: later ones are what rows are asked about.
    """
    model = Gesr(config, actions=len(schema.actions) + 1)
    events = split.examples.histories.events
    known = events.time_ms < split.examples.rows.prefixes.now_ms[split.train].min()
    # The schema's first item field names the item itself.
    item = config.moa.history.index(schema.item_fields[0])
    warm_start(model.moa.embedding, events.owners[known], events.ids[known, item])
    model.moa.fit_signals(split.examples.rows.signals[split.train])
    return model


def fit_model(
    model: Gesr,
    split: Split,
    training: TrainingConfig,
    stage: Stage,
    progress: Progress = silent,
) -> Curve:
    """Minimise the weighted log loss of the tasks; leaves the model in evaluation mode."""
    batches = split.batches(split.train, model.config, training)
    order = np.random.default_rng(training.seed)
    plan = [units for _ in range(training.epochs) for units in batches.plan(order)]
    judged = split.batches(split.validation, model.config, training)
    rules = Rules(training.clip_norm, training.validations, training.patience)
    pulse = Pulse(progress, len(plan))
    curve = _descend(model, batches, plan, training, rules, stage, pulse.advance, judged)
    pulse.reach(len(plan), curve.final_loss())
    return curve


def refit_model(model: Gesr, split: Split, training: TrainingConfig, stage: Stage) -> Curve:
    """Learn from the held-out rows too, once and gently: the newest weeks resemble the next most.

    With as many negatives as the model was fitted with, so that its calibration stays right.
    """
    engaged = split.examples.rows.labels[:, 0] > 0
    rows = thin_negatives(engaged, split.held_out, training.negatives, training.seed)
    batches = split.batches(rows, model.config, training)
    plan = batches.plan(np.random.default_rng(training.seed))
    # Anew, so that a run which was killed here draws what it would have drawn.
    torch.manual_seed(training.seed)
    gently = replace(training, learning_rate=training.refit * training.learning_rate)
    return _descend(model, batches, plan, gently, Rules(training.clip_norm), stage)


def _descend(
    model: Gesr,
    batches: Batches,
    plan: list[Ints],
    training: TrainingConfig,
    rules: Rules,
    stage: Stage,
    advance: Callable[[int, float], None] = lambda pieces, loss: None,
    judged: Batches | None = None,
) -> Curve:
    """Take a step for each batch of a plan; leaves the model in evaluation mode, on the CPU."""
    device = pick_device()
    model.to(device)
    optimiser = torch.optim.AdamW(
        _parameter_groups(model, training.weight_decay), lr=training.learning_rate, fused=True
    )
    weights = torch.tensor(model.config.task_weights, device=device)
    of_context = contextual(model.config.moa)

    def loss_at(step: int) -> Tensor:
        draw = np.random.default_rng([training.seed, step])
        batch = to_device(batches.build(plan[step], draw), device)
        inputs = hide_context(batch.inputs, training.context_dropout, of_context)
        return task_loss(model(inputs).logits, batch, weights)

    curve = fit(
        model,
        [one_cycle(optimiser, training.learning_rate, len(plan))],
        len(plan),
        loss_at,
        rules,
        stage,
        advance,
        (lambda: mean_loss(model, judged, weights)) if judged and judged.plan() else None,
    )
    model.cpu()
    return curve


def mean_loss(model: Gesr, batches: Batches, weights: Tensor) -> float:
    """Mean over all candidates of the tasks' weighted log losses, of a model in evaluation."""
    total, weight = 0.0, 0.0
    with torch.inference_mode():
        for units in batches.plan():
            batch = to_device(batches.build(units), weights.device)
            own = batch.weights.sum().item()
            total += own * task_loss(model(batch.inputs).logits, batch, weights).item()
            weight += own
    return total / weight


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


def predict(model: Gesr, batches: Batches) -> tuple[Floats, list[Gates]]:
    """Logits of the batches' rows, and how the gates of each branch stood.

    Returns:
        [N, tasks] float32 of all rows of the examples, 0 for one that is in no batch; and the
        gated branches.
    """
    logits = np.zeros((batches.rows, len(TASKS)), np.float32)
    gates: list[list[Floats]] = []
    with torch.inference_mode():
        for units in batches.plan():
            batch = batches.build(units)
            scores = model(batch.inputs)
            real = batch.rows >= 0
            logits[batch.rows[real]] = scores.logits.numpy()[real]
            gates.append([gate.numpy()[real] for gate in scores.gates])
    return logits, [Gates.of(np.concatenate(parts)) for parts in zip(*gates, strict=True)]


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


def hide_context(inputs: Inputs, share: float, signals: Sequence[int]) -> Inputs:
    """Hide the context of a random share of the visits, and the signals that depend on it."""
    device = inputs.context.device
    hidden = torch.rand(len(inputs.context), 1, device=device) < share
    of_context = torch.zeros(inputs.signals.shape[-1], dtype=torch.bool, device=device)
    of_context[signals] = True
    return replace(
        inputs,
        context=inputs.context.masked_fill(hidden, 0),
        signals=inputs.signals.masked_fill(hidden[..., None] & of_context, math.nan),
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for the block, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
