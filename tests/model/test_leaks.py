"""Point in time: nothing that an example reads may come from its own moment or later.

A leak is planted in the data: at the very moment of the examples, and after it, everybody does
something with every item that is shown. Whoever reads that knows the labels. The examples must be
those of the data without it; and to prove that this check can fail, a leak is planted in the code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import news_site
import numpy as np
import pyarrow as pa
import pytest

from daemon.datasets import mapping, parquet
from model.features import Encoder
from model.ranker import matches
from model.ranker.batches import Batches
from model.ranker.examples import Examples
from model.ranker.presets import configure
from model.ranker.train import fresh_model, prepare, seeded
from model.retriever import cooccurrence, periods, sides
from model.retriever.cooccurrence import CooccurrenceSettings
from model.retriever.periods import PeriodBuilder
from model.retriever.population import Population
from model.retriever.statistics import Window
from model.retriever.vocabulary import Vocabulary
from model.schema import Schema
from model.tables import TrainingTables

Read = dict[object, list[np.ndarray]]
"""What examples read, by example."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, TrainingTables]:
    site = news_site.write(tmp_path_factory.mktemp("news"))
    data = mapping.load(site.map)
    return data.fields, parquet.training_tables(data)


def with_future(tables: TrainingTables, now_ms: int) -> TrainingTables:
    """The tables, where at a moment, and an hour later, every user meets every item."""
    users = np.unique(tables.events["user_id"].to_numpy())
    items = tables.ads.filter(pa.compute.equal(tables.ads["week"], 0))
    row = np.tile(np.arange(items.num_rows), len(users))
    planted = {
        "user_id": np.repeat(users, items.num_rows),
        "action": pa.array(["open"] * len(row)),
        "value": np.full(len(row), 99.0),
        **{n: items[n].take(row) for n in ("story", "topic", "writer", "words")},
    }
    parts = [
        pa.table({**planted, "time_ms": np.full(len(row), at)}).select(tables.events.column_names)
        for at in (now_ms, now_ms + 3_600_000)
    ]
    plain = [part.cast(plain_schema(part)) for part in (tables.events, *parts)]
    return replace(tables, events=pa.concat_tables(plain).sort_by("time_ms"))


def plain_schema(table: pa.Table) -> pa.Schema:
    """Without dictionaries, which differ from part to part."""
    return pa.schema(
        [
            (field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
            for field in table.schema
        ]
    )


def read_by_ranker(schema: Schema, tables: TrainingTables, now_ms: int) -> Read:
    """Inputs of the visits of a moment; the labels are not among them."""
    config, _ = configure("tiny", schema, schema.carried(tables.events.column_names))
    examples = Examples.from_tables(tables, Encoder(schema), config)
    chosen = examples.rows.prefixes.now_ms == now_ms
    read: Read = {}
    batches = Batches(examples, chosen, config.hstu.context, groups=1)
    for units in batches.plan():
        batch = batches.build(units)
        for group, row in enumerate(batch.rows[:, 0].tolist()):
            inputs, length = batch.inputs, int(batch.inputs.prefixes[group])
            history = [
                part[inputs.rows[group], :length].numpy()
                for part in (inputs.history, inputs.actions, inputs.values, inputs.time_s)
            ]
            read[row] = [*history, inputs.counts[group].numpy(), inputs.signals[group].numpy()]
    return read


def read_by_retriever(schema: Schema, tables: TrainingTables, now_ms: int) -> Read:
    """User sides, priors and co-occurrences as of the start of an ad period."""
    population = Population.of(tables, Encoder(schema))
    assert now_ms in {ads.start_ms for ads in population.periods}
    vocabulary = Vocabulary.of(population.values(), 1)
    pairs = cooccurrence.fit(
        *population.met(now_ms),
        population.advertised(now_ms),
        CooccurrenceSettings(rank=4, min_users=2, min_together=2),
    )
    builder = PeriodBuilder(population, vocabulary, 1024)
    priors, every = builder.priors(now_ms)
    read: Read = {"priors": [priors], "pairs": [np.abs(pairs.source), pairs.pair_weights]}
    for user, statistics in enumerate(every):
        read[user] = [statistics.ids, statistics.columns]
    return read


READERS = pytest.mark.parametrize("read", [read_by_ranker, read_by_retriever])


def leaks(
    read: Callable[[Schema, TrainingTables, int], Read],
    schema: Schema,
    tables: TrainingTables,
) -> list[object]:
    """The examples that read something of a planted future."""
    times = tables.visits["time_ms"] if read is read_by_ranker else tables.ads["start_ms"]
    late = np.unique(times.to_numpy())
    now_ms = int(late[len(late) * 3 // 4])
    without = read(schema, tables, now_ms)
    with_it = read(schema, with_future(tables, now_ms), now_ms)
    assert without.keys() == with_it.keys()
    assert len(without) >= (1 if read is read_by_ranker else 50)
    return [
        example
        for example, parts in without.items()
        if not all(
            one.shape == other.shape and np.allclose(one, other, atol=1e-4, equal_nan=True)
            for one, other in zip(parts, with_it[example], strict=True)
        )
    ]


@READERS
def test_no_example_reads_its_own_moment_or_later(
    data: tuple[Schema, TrainingTables], read: Callable[..., Read]
) -> None:
    assert leaks(read, *data) == []


@READERS
def test_a_leak_planted_in_the_code_is_caught(
    data: tuple[Schema, TrainingTables], read: Callable[..., Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An off-by-one at the moment itself: "before or at" instead of "before"."""
    strictly = matches.positions_at
    for module in ("matches", "examples"):
        monkeypatch.setattr(
            f"model.ranker.{module}.positions_at",
            lambda events, owners, time_ms: strictly(events, owners, time_ms + 1),
        )
    before = sides.statistics_before

    def before_or_at(history: object, window: Window, now_ms: int, most: int) -> object:
        return before(history, window, now_ms + 1, most)

    monkeypatch.setattr(periods, "statistics_before", before_or_at)
    assert leaks(read, *data)


def test_the_shared_table_begins_without_what_training_is_asked_about(
    data: tuple[Schema, TrainingTables],
) -> None:
    """To prove that this check can fail, events of an hour before the first row do move it."""
    schema, tables = data
    times = np.unique(tables.visits["time_ms"].to_numpy())
    since_ms = int(times[len(times) // 2])
    config, training = configure("tiny", schema, schema.carried(tables.events.column_names))

    def table_of(tables: TrainingTables) -> np.ndarray:
        with seeded(0):
            split = prepare(tables, Encoder(schema), config, training, since_ms)
            return fresh_model(split, config, schema).moa.embedding.weight.detach().numpy()

    table = table_of(tables)
    assert np.array_equal(table, table_of(with_future(tables, since_ms)))
    assert not np.array_equal(table, table_of(with_future(tables, since_ms - 2 * 3_600_000)))
