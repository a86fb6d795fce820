"""`make chaos`: many rounds by one seed, and a report."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
from pathlib import Path
from tempfile import mkdtemp

from daemon.logs import configure_logging
from daemon.rows import Rows

from .faults import FAULTS
from .rounds import Report, run
from .truth import Truth
from .world import World


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of an earlier run, to see it again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    configure_logging("warning")
    # The clients tell of every connection that a fault takes from them.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(".headwater/numba").resolve()))
    folder = Path(mkdtemp(prefix="headwater-chaos-"))
    print(f"seed {seed}; logs and state: {folder}", flush=True)

    async def chaos() -> Report:
        jars = Path(".headwater/kafka/lib").resolve()
        async with World(folder, jars, arguments.workers) as world:
            truth = Truth(seed)
            return await run(world, truth, seed, arguments.rounds, arguments.faults, say)

    report = asyncio.run(chaos())
    figures = {
        "rounds": report.rounds,
        "lost": report.lost,
        "doubled": report.doubled,
        "resurrected": report.resurrected,
        "inconsistent": report.inconsistent,
        **{f"faults/{kind}": count for kind, count in sorted(report.faults.items())},
    }
    rows = Rows()
    for name, value in figures.items():
        rows.add(name, value, "1", n=report.rounds)
        print(f"{name:24s} {value}")
    for finding in report.findings:
        print(finding)
    if arguments.json:
        rows.write(arguments.json)
    if not report.sound:
        print(f"not the truth; again with --seed {seed}; logs and state: {folder}")
        sys.exit(1)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
