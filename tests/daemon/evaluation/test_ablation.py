"""Claims about ablations: what is run again, what is said of it, and what is drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.evaluation.ablation import page, studies
from daemon.evaluation.ablation.results import Key, Results, code
from daemon.evaluation.ablation.runs import carry_out
from daemon.evaluation.ablation.study import ByUser, Figure, Outcome
from daemon.evaluation.ablation.summary import Summary
from daemon.rows import Rows
from model.progress import Progress, silent

USERS = 40


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@dataclass
class Means:
    """A study whose systems are normal distributions: a run draws from one."""

    name: str = "ranker"
    reference: str = "whole"
    systems: Mapping[str, str] = field(
        default_factory=lambda: {"whole": "all of it", "less": "without a part"}
    )
    figures: tuple[Figure, ...] = (Figure("ne", "entropy", "nats/nats", falls=True),)
    about: str = "Drawn."
    shift: float = 0.5
    noise: float = 0.0
    killed_at: int | None = None
    ran: list[tuple[str, int]] = field(default_factory=list)

    def identity(self, system: str) -> Mapping[str, Any]:
        return {"shift": self.shift}

    def run(self, system: str, seed: int, progress: Progress) -> Outcome:
        if len(self.ran) == self.killed_at:
            raise Killed
        self.ran.append((system, seed))
        draw = np.random.default_rng([seed, system == "whole"])
        progress(1, 2, 0.5)
        values = np.arange(USERS) / USERS + self.noise * draw.normal()
        values += self.shift * (system != "whole")
        weights = np.where(np.arange(USERS) < USERS // 2, 1.0, 3.0)
        return Outcome({"ne": ByUser(values, weights)}, 2.0 + seed, 7)


def as_json(outcomes: Any) -> Any:
    return json.loads(
        json.dumps(outcomes, default=lambda o: getattr(o, "tolist", lambda: vars(o))())
    )


@pytest.mark.parametrize("killed_at", [0, 1, 3])
def test_a_killed_ablation_ends_as_one_that_was_not(tmp_path: Path, killed_at: int) -> None:
    whole, cut = Means(noise=1.0), Means(noise=1.0, killed_at=killed_at)
    expected = carry_out([whole], 2, Results(tmp_path / "whole"))
    with pytest.raises(Killed):
        carry_out([cut], 2, Results(tmp_path / "cut"))
    cut.killed_at = None
    found = carry_out([cut], 2, Results(tmp_path / "cut"))
    assert as_json(found) == as_json(expected)
    assert cut.ran == whole.ran, "a finished run was done again, or one was left out"


def test_finished_runs_are_not_done_again(tmp_path: Path) -> None:
    study = Means()
    first = carry_out([study], 2, Results(tmp_path))
    study.ran.clear()
    assert as_json(carry_out([study], 2, Results(tmp_path))) == as_json(first)
    assert study.ran == []
    carry_out([study], 3, Results(tmp_path))
    assert study.ran == [("whole", 2), ("less", 2)]


def test_a_changed_configuration_does_not_use_an_old_result(tmp_path: Path) -> None:
    carry_out([Means()], 1, Results(tmp_path))
    changed = Means(shift=0.25)
    found = carry_out([changed], 1, Results(tmp_path))
    assert len(changed.ran) == 2
    assert found["ranker"]["less"][0].by_user["ne"].values[0] == 0.25


KEY = Key("ranker", "gesr", 0, {"model": {"width": 64, "fields": ["a", "b"]}, "code": "1"})


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, study="history"),
        replace(KEY, system="gesr_without_hma"),
        replace(KEY, seed=1),
        replace(KEY, identity={**KEY.identity, "model": {"width": 32, "fields": ["a", "b"]}}),
        replace(KEY, identity={**KEY.identity, "code": "2"}),
    ],
)
def test_a_result_is_of_one_run_alone(tmp_path: Path, other: Key) -> None:
    results = Results(tmp_path)
    results.keep(KEY, Means().run("whole", 0, silent))
    assert results.find(KEY) is not None
    assert results.find(other) is None


def test_an_outcome_comes_back_bit_for_bit(tmp_path: Path) -> None:
    outcome = Means(noise=1.0).run("less", 1, silent)
    Results(tmp_path).keep(KEY, outcome)
    found = Results(tmp_path).find(KEY)
    assert found is not None
    np.testing.assert_array_equal(found.by_user["ne"].values, outcome.by_user["ne"].values)
    assert (found.train_s, found.parameters) == (outcome.train_s, outcome.parameters)
    assert [path.name for path in tmp_path.iterdir()] == [KEY.file]


def test_a_torn_result_is_none(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.keep(KEY, Means().run("whole", 0, silent))
    path = tmp_path / KEY.file
    path.write_text(path.read_text()[:-9])
    assert results.find(KEY) is None


def test_code_is_what_it_does(tmp_path: Path) -> None:
    """Else every word about it would cost an hour of training, and no change of it any."""
    path = tmp_path / "one.py"
    path.write_text('"""Adds."""\ndef add(a):\n    """Add."""\n    return a + 1\n')
    before = code([tmp_path])
    path.write_text('"""Adds one."""\n\n\ndef add(a):\n    # One.\n    return a + 1\n')
    assert code([tmp_path]) == before
    path.write_text("def add(a):\n    return a + 2\n")
    assert code([tmp_path]) != before


def test_a_difference_is_from_the_reference_on_the_same_users(tmp_path: Path) -> None:
    """Users differ far more than systems do: unpaired, no difference would be seen."""
    study = Means(shift=0.01)
    summary = Summary.of(study, carry_out([study], 3, Results(tmp_path))["ranker"])
    whole, less = (summary.figures["ne"][system] for system in ("whole", "less"))
    assert whole.less is None
    assert less.less is not None
    assert less.less.value == pytest.approx(0.01)
    assert less.less.spread < 1e-9 < 0.01 < less.mean.spread
    users = np.arange(USERS) / USERS
    expected = np.average(users, weights=np.where(users < 0.5, 1.0, 3.0))
    assert whole.mean.value == pytest.approx(expected), "users count by their weight"


def test_what_seeds_differ_by_makes_a_mean_less_sure(tmp_path: Path) -> None:
    steady, noisy = Means(noise=0.0), Means(noise=0.3)
    spreads = []
    for study, folder in ((steady, tmp_path / "steady"), (noisy, tmp_path / "noisy")):
        summary = Summary.of(study, carry_out([study], 4, Results(folder))["ranker"])
        less = summary.figures["ne"]["less"].less
        assert less is not None
        spreads.append((summary.figures["ne"]["less"].mean.spread, less.spread))
    draws = [
        [0.3 * np.random.default_rng([seed, whole]).normal() for seed in range(4)]
        for whole in (True, False)
    ]
    variance = np.mean([np.var(one, ddof=1) for one in draws]) / 4
    assert spreads[1][0] == pytest.approx(np.hypot(spreads[0][0], variance**0.5))
    assert spreads[1][1] == pytest.approx((2 * variance) ** 0.5)


def test_rows_name_study_figure_and_system(tmp_path: Path) -> None:
    study, rows = Means(), Rows()
    Summary.of(study, carry_out([study], 2, Results(tmp_path))["ranker"]).add_to(rows)
    assert {(row.axis, row.system, row.unit) for row in rows.rows} == {
        ("ablation/ranker/ne", "whole", "nats/nats"),
        ("ablation/ranker/ne", "less", "nats/nats"),
        ("ablation/ranker/ne/less_whole", "less", "nats/nats"),
        ("ablation/ranker/train_s", "whole", "s"),
        ("ablation/ranker/train_s", "less", "s"),
    }
    assert all(row.spread is not None for row in rows.rows)


def test_the_page_shows_every_system_and_its_picture(tmp_path: Path) -> None:
    parts, lengths = Means(), Means(name="history", reference="gesr_50")
    lengths.systems = {"gesr_50": "50", "gesr_50_stochastic": "20 of 50", "gesr_100": "100"}
    outcomes = carry_out([parts, lengths], 2, Results(tmp_path / "runs"))
    summaries = [Summary.of(study, outcomes[study.name]) for study in (parts, lengths)]
    for _ in range(2):
        page.write(tmp_path, summaries)
    text = (tmp_path / "ablations.md").read_text()
    for study in (parts, lengths):
        assert f"(ablations/{study.name}.png)" in text
        assert all(f"| `{system}` |" in text for system in study.systems)
    pictures = sorted((tmp_path / "ablations").iterdir())
    assert [path.name for path in pictures] == ["history.png", "ranker.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert "**+.5000 ± .0000**" in text


def test_every_study_compares_different_systems_with_one_of_them() -> None:
    for make in studies().values():
        study = make()
        assert study.reference in study.systems
        assert len(study.systems) == len(set(study.systems.values()))


def test_a_page_of_some_studies_is_refused(tmp_path: Path) -> None:
    """It would take the others' numbers off the page."""
    arguments = ["ablate", "--docs", str(tmp_path), "--only", "ranker"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
