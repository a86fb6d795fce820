"""Claims about training examples: labels from the period, everything else from before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model.features import Encoder
from model.retriever import cooccurrence
from model.retriever.cooccurrence import CooccurrenceSettings
from model.retriever.periods import Period, PeriodBuilder
from model.retriever.population import Population
from model.retriever.priors import COLUMN_NAMES
from model.retriever.vocabulary import Vocabulary
from model.schema import Schema
from model.tables import TrainingTables

WEEK_MS = 7 * 86_400_000
AT = 4


def build(tables: TrainingTables, schema: Schema, vocabulary: Vocabulary | None = None) -> Period:
    """The period AT, with co-occurrences of what was before it."""
    population = Population.of(tables, Encoder(schema))
    builder = PeriodBuilder(population, vocabulary or vocabulary_of(tables, schema), 1024)
    now_ms = AT * WEEK_MS
    pairs = cooccurrence.fit(
        *population.met(now_ms),
        population.advertised(now_ms),
        CooccurrenceSettings(rank=4, min_users=2, min_together=2),
    )
    return builder.build(AT, pairs)


def vocabulary_of(tables: TrainingTables, schema: Schema) -> Vocabulary:
    return Vocabulary.of(Population.of(tables, Encoder(schema)).values(), 1)


def test_labels_are_the_purchases_of_advertised_items(
    world: TrainingTables, schema: Schema
) -> None:
    period = build(world, schema)
    encoder = Encoder(schema)
    rows = world.events.filter(
        pc.and_(
            pc.greater_equal(world.events["time_ms"], AT * WEEK_MS),
            pc.less(world.events["time_ms"], (AT + 1) * WEEK_MS),
        )
    )
    shown = {int(item) for item in period.items[:, 0]}
    bought: dict[int, dict[int, float]] = {}
    for row in rows.to_pylist():
        item = encoder.raw_id(f"product={row['product']}")
        if item in shown:
            spent = bought.setdefault(row["user_id"], {})
            spent[item] = spent.get(item, 0) + row["value"]
    assert len(period.examples) == len(bought)
    for example, user in zip(period.examples, sorted(bought), strict=True):
        items = period.items[example.bought, 0].tolist()
        assert sorted(items) == sorted(bought[user])
        np.testing.assert_allclose(example.spent, [bought[user][item] for item in items], rtol=1e-5)


def test_nothing_but_labels_comes_from_the_period_or_later(
    world: TrainingTables, schema: Schema
) -> None:
    """Every later event is replaced by another; what the network reads must not change."""
    shown = world.ads.filter(pc.equal(world.ads["week"], AT))["product"][0].as_py()
    vocabulary = vocabulary_of(world, schema)
    before = build(world, schema, vocabulary)
    late = pc.greater_equal(world.events["time_ms"], AT * WEEK_MS)
    columns = {
        name: pc.if_else(late, pa.scalar(value), world.events[name])
        for name, value in (("product", shown), ("kind", "k1"), ("value", 99.0))
    }
    changed = world.events
    for name, column in columns.items():
        changed = changed.set_column(changed.column_names.index(name), name, column)
    after = build(replace(world, events=changed), schema, vocabulary)
    np.testing.assert_array_equal(before.priors, after.priors)
    np.testing.assert_array_equal(before.factors, after.factors)
    # Every user buys the advertised product now, so that every earlier example has its twin.
    twins = {example.user.columns.tobytes(): example.user for example in after.examples}
    assert len(before.examples) > 10
    for example in before.examples:
        twin = twins[example.user.columns.tobytes()]
        for name in ("ids", "weights", "sources", "led_rows", "profile"):
            np.testing.assert_array_equal(getattr(example.user, name), getattr(twin, name))


def test_values_of_ads_are_found_by_position(world: TrainingTables, schema: Schema) -> None:
    ads = world.ads.set_column(
        world.ads.column_names.index("slot"), "slot", pa.nulls(world.ads.num_rows, pa.string())
    )
    period = build(replace(world, ads=ads), schema)
    padded = np.append(period.values, 0)
    np.testing.assert_array_equal(padded[period.value_at], period.items)
    assert 0 not in period.values


def test_priors_count_users_and_earlier_ads(world: TrainingTables, schema: Schema) -> None:
    population = Population.of(world, Encoder(schema))
    vocabulary = vocabulary_of(world, schema)
    builder = PeriodBuilder(population, vocabulary, 1024)
    now_ms = AT * WEEK_MS
    priors, _ = builder.priors(now_ms)
    users, items = population.met(now_ms)
    for item in np.unique(items)[:5]:
        row = vocabulary.find(item, 0)
        buyers = len(np.unique(users[items == item]))
        assert priors[row, COLUMN_NAMES.index("buyers")] == pytest.approx(np.log1p(buyers))
        weeks = [at for at in range(AT) if item in population.periods[at].items[:, 0]]
        showings = sum(np.exp(-(AT - 1 - week) / 13) for week in weeks)
        found = priors[row, COLUMN_NAMES.index("showings")]
        assert found == pytest.approx(np.log1p(showings), rel=1e-4)
    unknown = priors[len(vocabulary.ids) :]
    assert (unknown[:, COLUMN_NAMES.index("showings")] == 0).all()
    assert (unknown[:, : COLUMN_NAMES.index("repeat_rate")] == 0).all()
