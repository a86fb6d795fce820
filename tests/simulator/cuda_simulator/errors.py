"""What a simulated kernel can do wrong."""


class SimulationError(Exception):
    """A kernel did what has no defined outcome on a GPU."""


class RaceError(SimulationError):
    """Two threads accessed the same memory, one to write, in no fixed order."""


class BarrierError(SimulationError):
    """A barrier that some threads of the block never reach, or reach elsewhere."""


class WarpError(SimulationError):
    """A warp operation with lanes missing."""


class MemoryFault(SimulationError):
    """An index or an address outside every array."""


class StoreOverflow(SimulationError):
    """A value was stored in a type that cannot hold it."""


class TypingFault(SimulationError):
    """Operands that Numba would turn into a float64."""
