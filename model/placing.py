"""Placing: one folder takes another's place, with no moment between.

Owns the exchange of two folders by name. Promises that the name always leads to a whole folder,
the old one or the new one, where the file system can exchange (Linux's local ones do); elsewhere
there is a moment in which it leads nowhere.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def put(fresh: Path, folder: Path) -> None:
    """Give a folder its name; what had the name before has the fresh one's afterwards."""
    if not folder.exists():
        fresh.rename(folder)
    elif not _exchange(fresh, folder):
        aside = fresh.with_name(f"{fresh.name}.aside")
        folder.rename(aside)
        fresh.rename(folder)
        aside.rename(fresh)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, as Python itself cannot; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    return (
        hasattr(libc, "renameat2")
        and libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0
    )
