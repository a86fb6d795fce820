"""Claims about a retriever's weights beside newer knowledge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.features import Encoder
from model.retriever import Retriever, train_retriever
from model.retriever.parts import Parts
from model.retriever.population import Population
from model.retriever.refresh import refreshed
from model.schema import Schema
from model.tables import TrainingTables
from model.training import Options


def test_refreshed_by_its_own_data_a_retriever_knows_what_it_knew(
    world: TrainingTables, folder: Path
) -> None:
    parts, _ = Parts.load(folder)
    again = refreshed(parts, world)
    np.testing.assert_array_equal(again.priors, parts.priors)
    for name, array in vars(parts.cooccurrence).items():
        np.testing.assert_array_equal(getattr(again.cooccurrence, name), array)


def test_refreshed_by_earlier_data_it_knows_nothing_of_what_came_later(
    world: TrainingTables, schema: Schema, folder: Path
) -> None:
    """The weights stay; a user or an item whose purchases came later changes nothing."""
    parts, _ = Parts.load(folder)
    starts = np.unique(world.ads["start_ms"].to_numpy())
    early = world.before(int(starts[len(starts) // 2]))
    again = refreshed(parts, early)
    assert again.network is parts.network
    assert np.abs(again.priors - parts.priors).max() > 0
    met = Population.of(early, Encoder(schema)).events.items[:, 0]
    assert np.isin(again.cooccurrence.ids, met).all()


def test_a_retriever_names_the_periods_that_it_was_fitted_to(
    world: TrainingTables, schema: Schema, folder: Path, tmp_path: Path
) -> None:
    """The base's too, where it began with one."""
    first, last = (edge(world.ads["start_ms"].to_numpy()) for edge in (np.min, np.max))
    end = int(world.ads["end_ms"].to_numpy().max())
    retriever = Retriever.load(folder)
    assert retriever.has_learned_from(int(last), end)
    assert not retriever.has_learned_from(end, end + 1)
    options = Options(since_ms=int(last), base=folder)
    train_retriever(world, schema, "tiny", tmp_path / "next", options=options)
    earlier = Parts.load(folder)[0].learned
    learned = Parts.load(tmp_path / "next")[0].learned
    np.testing.assert_array_equal(learned, [*earlier, (last, end)])
    assert first <= earlier.min()
