"""Where the figures in the documents come from; README.md lists the axes.

A module that can be run (`python -m benchmarks.NAME --json FILE`) is a
benchmark. It measures Headwater and its peers side by side in one run, prints
what it finds, and writes its rows.

Libraries get one thread each unless told otherwise, before any is loaded:
figures are CPU time of one core.
"""

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
