"""README's table of the index beside its peers, made of the benchmark's rows."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.rows import Row

from .observations import OWN

AXES = {
    "sparse_heavy_ms": "heavy query",
    "sparse_light_ms": "light query",
    "sparse_heavy_ms/signed": "heavy query, weights of both signs",
    "sparse_light_ms/signed": "light query, weights of both signs",
    "sparse_heavy_ms/real": "real query",
    "full_heavy_ms": "heavy query and embeddings",
    "full_light_ms": "light query and embeddings",
    "full_heavy_ms/real": "real query and embeddings",
    "upsert_1000_ms": "1,000 new versions",
    "upsert_one_ms": "one new version",
    "upsert_found_ms": "one new version, then found",
    "build_s": "build of all ads",
    "bits_per_posting_weighted": "per posting, with its weight",
    "bits_per_posting": "per posting, without",
    "bits_per_posting/real": "per posting, real ads as they came",
}
PEERS = {
    "qdrant_edge": "Qdrant Edge",
    "graphblas": "GraphBLAS",
    "mkl": "MKL",
    "scipy_delta": "SciPy",
    "scipy_gemm_delta": "SciPy SpGEMM",
    "torch_scipy": "torch + SciPy",
    "pisa": "PISA",
}


def markdown(rows: Iterable[Row]) -> str:
    """The table: headwater's figures, and each peer's as multiples; below 1 in bold."""
    known = {(row.axis, row.system): row for row in rows}
    lines = [
        f"| | Headwater | {' | '.join(PEERS.values())} |",
        f"|---|---|{'---|' * len(PEERS)}",
    ]
    for axis, words in AXES.items():
        own = known.get((axis, OWN))
        if own is None:
            continue
        multiples = [_multiple(known.get((axis, peer)), own.value) for peer in PEERS]
        figure = f"{own.value:.3g} {own.unit}"
        lines.append(f"| {words} | {figure} | {' | '.join(multiples)} |")
    return "\n".join(lines)


def _multiple(row: Row | None, own: float) -> str:
    if row is None:
        return ""
    multiple = f"{row.value / own:.2g}"
    return multiple if row.value >= own else f"**{multiple}**"
