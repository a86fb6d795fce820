"""`python -m benchmarks`: every benchmark, one after the other.

Owns the order and the one file that all rows end in. Each benchmark is a
process of its own, so that none runs in the memory, threads or compiled code
that another left behind.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import BENCHMARKS


def run(name: str, *, quick: bool) -> list[dict[str, Any]]:
    """Run one benchmark; its output goes to the screen.

    Args:
        name: which.
        quick: only a first look.

    Returns:
        Its rows.

    Raises:
        subprocess.CalledProcessError: it failed, and said why on its own.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
        subprocess.run([*command, "--quick"] if quick else command, check=True)
        rows: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return rows


def main() -> int:
    """Run what was asked for; 1 if any of it failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows to FILE")
    parser.add_argument(
        "--quick", action="store_true", help="a first look: smaller, and no figures to quote"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        there_are = ", ".join(BENCHMARKS)
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {there_are}")
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for name in arguments.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        try:
            rows += run(name, quick=arguments.quick)
        except subprocess.CalledProcessError:
            failed.append(name)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
