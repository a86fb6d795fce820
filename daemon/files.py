"""Files that are whole or not there, whatever ends the process or the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one go; what was there before stays until it is done."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("w") as file:
        json.dump(content, file)
        file.flush()
        # Else a machine that goes down may have the name and not the words.
        os.fsync(file.fileno())
    draft.replace(path)
