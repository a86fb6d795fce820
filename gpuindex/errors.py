"""What can go wrong with an index, by what the operator can do about it."""


class IndexFault(Exception):
    """Base of the index's errors; `retriable` says whether trying again helps."""

    retriable = False


class InvalidBatch(IndexFault, ValueError):
    """A batch whose arrays do not fit each other or the index."""


class InvalidQuery(IndexFault, ValueError):
    """A query that the index cannot answer as it stands."""


class MemoryBudgetExceeded(IndexFault):
    """Applying this would pass the memory budget; folding dead ads away may make room."""

    retriable = True


class SnapshotUnsupported(IndexFault):
    """A snapshot written by a newer format; start the version that wrote it."""


class DeviceUnusable(IndexFault):
    """A device was asked for and cannot be used; the message says what is missing."""
