"""Numbers that behave as Numba types them.

Signed integers promote to int64, which a Python int stands for. Unsigned ones
promote to uint64 among themselves and wrap; a uint64 beside a signed integer
would become a float64, which no kernel means, and is refused. float32 stays
float32 among its own and becomes float64 beside anything else.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .errors import TypingFault

_FLOAT32 = struct.Struct("f")
_MASK64 = (1 << 64) - 1


class Float32(float):
    """A float32, or a float64 once it meets one."""

    __slots__ = ()

    def __new__(cls, value: float = 0.0) -> "Float32":
        try:
            (rounded,) = _FLOAT32.unpack(_FLOAT32.pack(value))
        except OverflowError:
            rounded = float("inf") if value > 0 else float("-inf")
        return float.__new__(cls, rounded)


def _float32_operation(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(float, name)

    def operation(left: Any, right: Any) -> Any:
        result = plain(left, right)
        return Float32(result) if type(right) is Float32 else result

    return operation


for _name in ("add", "sub", "mul", "truediv", "radd", "rsub", "rmul", "rtruediv"):
    setattr(Float32, f"__{_name}__", _float32_operation(f"__{_name}__"))


class Unsigned(int):
    """An unsigned integer of some width; arithmetic among them is uint64."""

    bits = 64
    __slots__ = ()

    def __new__(cls, value: int = 0) -> "Unsigned":
        return int.__new__(cls, int(value) & ((1 << cls.bits) - 1))


class Uint8(Unsigned):
    bits = 8
    __slots__ = ()


class Uint16(Unsigned):
    bits = 16
    __slots__ = ()


class Uint32(Unsigned):
    bits = 32
    __slots__ = ()


class Uint64(Unsigned):
    __slots__ = ()


def _unsigned_operation(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(int, name)

    def operation(left: Any, right: Any) -> Any:
        result = plain(left, right)
        if isinstance(right, Unsigned):
            return Uint64(result & _MASK64)
        if type(left) is Uint64 and isinstance(right, int):
            raise TypingFault(f"uint64 {name} a signed integer: Numba makes that a float64")
        return result

    return operation


for _name in (
    *("add", "sub", "mul", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"),
    *("radd", "rsub", "rmul", "rand", "ror", "rxor"),
):
    setattr(Unsigned, f"__{_name}__", _unsigned_operation(f"__{_name}__"))


def _signed(bits: int) -> Callable[[Any], int]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1

    def cast(value: Any) -> int:
        low = int(value) & mask
        return low - mask - 1 if low & top else low

    return cast


_CASTS: dict[str, Callable[[Any], Any]] = {
    "uint8": Uint8,
    "uint16": Uint16,
    "uint32": Uint32,
    "uint64": Uint64,
    "int8": _signed(8),
    "int16": _signed(16),
    "int32": _signed(32),
    "int64": _signed(64),
    "float32": Float32,
    "float64": float,
    "bool": bool,
}


def caster(dtype: DTypeLike) -> Callable[[Any], Any]:
    """What makes a simulated number of a NumPy type out of any number."""
    return _CASTS[np.dtype(dtype).name]


def numpy_type(dtype: Any) -> np.dtype[Any]:
    """The NumPy type that a NumPy or Numba type object names."""
    return np.dtype(getattr(dtype, "dtype_of_cast", dtype))
