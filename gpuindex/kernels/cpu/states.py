"""Records of delivery state, as the writer keeps them and as queries read them."""

import numba
import numpy as np

ACTIVE = 1
FUNDED = 2
OPEN = ACTIVE | FUNDED

# A row of the directory: a control record, or the defaults.
DELIVERY = np.dtype(
    [
        ("start_ms", np.int64),
        ("end_ms", np.int64),
        ("budget_left", np.float64),
        ("pacing", np.float32),
        ("bid", np.float32),
        ("bias", np.float32),
        ("active", np.bool_),
    ],
    align=True,
)

# A slot's state, all that eligibility needs in half a cache line. The bias is
# apart, since a full query reads that of every slot and nothing else.
STATE = np.dtype(
    [
        ("start_ms", np.int64),
        ("end_ms", np.int64),
        ("pacing", np.float32),
        ("bid", np.float32),
        ("gate", np.uint8),
    ],
    align=True,
)

delivery_record = numba.from_dtype(DELIVERY)
state_record = numba.from_dtype(STATE)
