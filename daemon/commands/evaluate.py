"""`headwater evaluate`: how good the models are on real data, beside baselines."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .. import environment
from ..evaluation import Part, Run, parts
from ..failure import Failed
from ..rows import Rows
from . import options


def evaluate(
    json_file: options.Figures = None,
    only: Annotated[list[Part] | None, typer.Option(help="Only this part; repeatable.")] = None,
    seeds: Annotated[
        int, typer.Option(help="Trainings of each model whose figures are averaged.", min=1)
    ] = 1,
    config: options.Config = None,
    assignments: options.Set = None,
) -> None:
    """Measure retrieval and ranking on The Complete Journey; a missing model is trained first."""
    settings = options.settings(config, assignments)
    environment.prepare(settings.worker)
    # Imported here: it reads no data before it is asked to.
    from ..datasets.complete_journey import DatasetMissing

    rows = Rows(title="Models on The Complete Journey, test weeks")
    run = Run(settings.checkpoints, seeds, Console(stderr=True, highlight=False), rows)
    try:
        for part, measure in parts().items():
            if not only or part in only:
                measure(run)
    except DatasetMissing as error:
        raise Failed(str(error)) from None
    Console(highlight=False).print(rows.table())
    if json_file is not None:
        rows.write(json_file)
