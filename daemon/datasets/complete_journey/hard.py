"""The hard set: which visits' ads the ranker is measured on, and what may be learned before.

Owns the split by weeks and which items are warm. Promises the rows that figures on this data are
compared on: purchases of featured ads and 20 that the same visit passed over for each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.tables import TrainingTables

from .exposures import products_of
from .tables import training_tables
from .weeks import LAST_WEEK, week_start_ms
from .wheel import purchases

VALIDATE_WEEK, TEST_WEEK = 45, 49
# Items that fewer households have bought before the validation weeks are left out.
WARM_HOUSEHOLDS = 20


@dataclass(frozen=True)
class HardSet:
    """Visits of warm items.

    Attributes:
        tables: all weeks.
        week: [visit rows] int32.
    """

    tables: TrainingTables
    week: NDArray[np.int32]

    @property
    def train(self) -> NDArray[np.bool_]:
        """[visit rows] bool: weeks to learn from."""
        return self.week < VALIDATE_WEEK

    @property
    def validate(self) -> NDArray[np.bool_]:
        """[visit rows] bool: weeks that say when to stop, and calibrate."""
        return (self.week >= VALIDATE_WEEK) & (self.week < TEST_WEEK)

    @property
    def test(self) -> NDArray[np.bool_]:
        """[visit rows] bool: weeks to measure on."""
        return self.week >= TEST_WEEK

    def learnable(self) -> TrainingTables:
        """What was known at the start of the test weeks."""
        return self.tables.before(week_start_ms(TEST_WEEK))


def hard_set() -> HardSet:
    """Read the data."""
    tables = training_tables(LAST_WEEK + 1)
    bought = purchases().filter(pc.field("week") < VALIDATE_WEEK)
    households = bought.group_by("product_id").aggregate([("household_id", "count_distinct")])
    steady = pc.field("household_id_count_distinct") >= WARM_HOUSEHOLDS
    warm = households.filter(steady)["product_id"].to_numpy()
    kept = np.isin(products_of(tables.visits["ad_id"].to_numpy()), warm)
    visits = tables.visits.filter(pa.array(kept))
    return HardSet(replace(tables, visits=visits), visits["week"].to_numpy())
