"""Bytes of the same postings in PISA, where pyterrier-pisa is installed.

It cannot be in the lock, since it wants a tbb years older than MKL's, and a
search stack that nothing else here needs. So a Python of its own, named by the
caller, encodes the postings; README.md says how it is made.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from .workload import FULL_WEIGHT, Ads

# Its default, the one that is known for its size, and one between.
ENCODINGS = ("block_simdbp", "block_optpfor", "block_interpolative")

# What the other Python runs, in a folder with PISA's uncompressed lists: the compiled part alone,
# since the package around it starts a Java machine.
PREPARE = """
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

package = find_spec("pyterrier_pisa")
spec = PathFinder.find_spec("_pisathon", list(package.submodule_search_locations))
pisa = module_from_spec(spec)
spec.loader.exec_module(pisa)
pisa.build_binlex("fwd.terms", "fwd.termlex")
pisa.build_binlex("fwd.documents", "fwd.doclex")
for encoding in sys.argv[1:]:
    pisa.prepare_index(pisa.RetrievalContext(), ".", encoding, "quantized", "")
"""


def bits(ads: Ads, features: int, python: Path) -> dict[str, float]:
    """Bits per posting by encoding: slots and weights, without what is kept for pruning.

    Raises:
        SystemExit: the Python given cannot, and why.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        _write(ads, features, folder)
        done = subprocess.run(
            [python.absolute(), "-c", PREPARE, *ENCODINGS],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{python} cannot encode with PISA: {done.stderr}")
        sizes = {each: next(folder.glob(f"*.{each}")).stat().st_size for each in ENCODINGS}
    return {encoding: 8 * size / len(ads.features) for encoding, size in sizes.items()}


def _write(ads: Ads, features: int, folder: Path) -> None:
    """Lists as PISA takes them: for each a count and its entries, all uint32."""
    order = np.argsort(ads.features, kind="stable")
    owners = np.repeat(np.arange(len(ads), dtype=np.uint32), np.diff(ads.bounds))[order]
    counts = np.bincount(ads.features, minlength=features)
    counts = counts[counts > 0]
    with (folder / "inv.docs").open("wb") as file:
        file.write(np.array([1, len(ads)], np.uint32).tobytes())
        file.write(_counted(owners, counts).tobytes())
    # Its lists always have weights; where there are none, ones take the fewest bits.
    weights = ads.weights if ads.weights.min() < FULL_WEIGHT else np.ones_like(ads.weights)
    (folder / "inv.freqs").write_bytes(_counted(weights[order], counts).tobytes())
    lengths = np.add.reduceat(weights.astype(np.uint32), ads.bounds[:-1])
    (folder / "inv.sizes").write_bytes(_counted(lengths, np.array([len(ads)])).tobytes())
    for file_name, count in (("fwd.terms", len(counts)), ("fwd.documents", len(ads))):
        (folder / file_name).write_text("".join(f"{number:09d}\n" for number in range(count)))


def _counted(entries: NDArray[np.integer], counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Lists one after the other, each behind its count."""
    starts = np.append(0, np.cumsum(counts)[:-1])
    return np.insert(entries.astype(np.uint32), starts, counts.astype(np.uint32))
