"""A kernel's Python function with its globals exchanged for simulated ones."""

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numba import cuda
from numba.core import types as numba_types

from .scalars import caster


class _Cast:
    """`np.int32` and its like: called they cast, named they are a type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype_of_cast = np.dtype(dtype)
        self._cast = caster(self.dtype_of_cast)

    def __call__(self, value: Any) -> Any:
        return self._cast(value)


class _Module:
    """A module whose members are exchanged when they are asked for."""

    def __init__(self, module: types.ModuleType, exchange: Callable[[Any], Any]) -> None:
        self._module = module
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        value = self._exchange(getattr(self._module, name))
        self.__dict__[name] = value
        return value


class Binder:
    """Exchanges what a kernel refers to, and the functions that it calls."""

    def __init__(self, simulated_cuda: Any, substitutes: Mapping[Any, Any]) -> None:
        self._cuda = simulated_cuda
        self._substitutes = {id(key): value for key, value in substitutes.items()}
        self._bound: dict[int, Any] = {}

    def bind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its globals exchanged."""
        if id(function) in self._bound:
            return self._bound[id(function)]  # type: ignore[no-any-return]
        names: dict[str, Any] = {"__builtins__": __builtins__, "__name__": function.__module__}
        closure = tuple(
            types.CellType(self.exchange(cell.cell_contents)) for cell in function.__closure__ or ()
        )
        bound = types.FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, closure
        )
        self._bound[id(function)] = bound
        for name in function.__code__.co_names:
            if name in function.__globals__:
                names[name] = self.exchange(function.__globals__[name])
        return bound

    def exchange(self, value: Any) -> Any:
        """What stands for a value inside a simulated kernel."""
        if id(value) in self._substitutes:
            return self._substitutes[id(value)]
        if value is cuda:
            return self._cuda
        if hasattr(value, "py_func"):
            return self.bind(value.py_func)
        if isinstance(value, numba_types.Number):
            return _Cast(str(value))
        if isinstance(value, type) and issubclass(value, np.generic):
            return _Cast(value)
        if isinstance(value, types.ModuleType) and value is not math:
            return _Module(value, self.exchange)
        return value
