"""The command line of a benchmark.

Owns what `python -m benchmarks` asks of each module that `BENCHMARKS` names: that it runs on its
own, takes `--quick` for a first look, and writes its rows to the file that `--json` names.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from daemon.rows import Rows


def parser(name: str, doc: str | None, *, quick: str) -> argparse.ArgumentParser:
    """A parser of the options that every benchmark has.

    Args:
        name: of the module.
        doc: the module's.
        quick: what a first look leaves out.
    """
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    made.add_argument("--quick", action="store_true", help=f"for a first look: {quick}")
    return made


def main_by_ads(
    name: str, doc: str | None, measure: Callable[[int], Rows], *, ads: int, quick_ads: int
) -> None:
    """The whole of a benchmark that asks only how many ads there are.

    Args:
        name, doc: as of `parser`.
        measure: prints what it finds for so many ads, and returns the rows.
        ads: how many by default.
        quick_ads: how many for a first look.
    """
    options_of = parser(name, doc, quick=f"{quick_ads:,} ads")
    options_of.add_argument("--ads", type=int, metavar="N", help=f"how many; {ads:,} by default")
    options = options_of.parse_args()
    rows = measure(options.ads or (quick_ads if options.quick else ads))
    if options.json:
        rows.write(options.json)
