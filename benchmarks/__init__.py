"""Where the figures in the documents come from; README.md lists the axes.

Each of `BENCHMARKS` is a module that runs on its own (`python -m benchmarks.NAME
--json FILE`). It measures Headwater and its peers side by side in one run, prints
what it finds, and writes its rows.

Libraries get one thread each unless told otherwise, before any is loaded:
figures are CPU time of one core.
"""

import os

# In the order in which they run.
BENCHMARKS = (
    "balance",
    "block_sizes",
    "encodings",
    "formats",
    "index",
    "intake",
    "kernel_bounds",
    "query_bits",
    "takeover",
)

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
