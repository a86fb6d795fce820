"""Arrays of a safetensors file, read where they lie.

The library's own NumPy reader copies; these arrays are a memory map of the file instead, so that
workers of one machine that hold the same file hold it in memory once. A file that is mapped must
never be written again: it may be replaced or unlinked.
"""

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The format's names of element types.
DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
}
LENGTH_BYTES = 8


def tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read-only arrays by name.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not a whole file of this format.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if begin > len(content):
        raise ValueError(f"{path.name}: ends within its header")
    try:
        header = json.loads(content[LENGTH_BYTES:begin])
        return {
            name: _array(content, begin, entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error!r}") from None


def _array(content: mmap.mmap, begin: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(DTYPES[entry["dtype"]])
    shape: list[int] = entry["shape"]
    first, end = entry["data_offsets"]
    size = math.prod(shape)
    if not 0 <= first <= end <= len(content) - begin or end - first != size * dtype.itemsize:
        raise ValueError("data where there is none")
    if size == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype, size, begin + first).reshape(shape)
