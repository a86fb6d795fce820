"""`headwater ablate`: what each part of the models is worth, by training them without it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import environment
from ..evaluation.ablation import Name, studies
from ..failure import Failed
from ..rows import Rows
from . import options


def ablate(
    json_file: options.Figures = None,
    docs: Annotated[
        Path | None,
        typer.Option(
            help="Write ablations.md and its pictures into this folder.",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    only: Annotated[list[Name] | None, typer.Option(help="Only this study; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each system.", min=1)] = 3,
    config: options.Config = None,
    assignments: options.Set = None,
) -> None:
    """Train both models without one part or another on The Complete Journey; goes on if stopped."""
    if docs is not None and only:
        raise typer.BadParameter("the page has all studies: leave --only out", param_hint="--docs")
    settings = options.settings(config, assignments)
    environment.prepare(settings.worker)
    # Imported here: they read no data before they are asked to.
    from ..datasets.complete_journey import DatasetMissing
    from ..evaluation.ablation import page
    from ..evaluation.ablation.results import Results
    from ..evaluation.ablation.runs import bar, carry_out
    from ..evaluation.ablation.summary import Summary

    results = Results(settings.worker.state_dir / "ablations")
    try:
        chosen = [make() for name, make in studies().items() if not only or name in only]
        with bar(Console(stderr=True, highlight=False)) as display:
            outcomes = carry_out(chosen, seeds, results, display)
    except DatasetMissing as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        raise Failed(
            f"interrupted; finished runs are in {results.folder}, and the same command goes on"
        ) from None
    summaries = [Summary.of(study, outcomes[study.name]) for study in chosen]
    rows = Rows(title="Ablations on The Complete Journey, test weeks")
    for summary in summaries:
        summary.add_to(rows)
    Console(highlight=False).print(rows.table())
    if json_file is not None:
        rows.write(json_file)
    if docs is not None:
        page.write(docs, summaries)
