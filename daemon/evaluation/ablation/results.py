"""Results: the finished runs, one file each, so that an ablation goes on where it was killed.

Owns their folder. Promises that a file is whole or not there, and that a run is found again only
if its seed, its configuration, its data, the libraries and the code that it ran are the same.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...files import write_json
from .study import ByUser, Outcome

Documented: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Key:
    """Which run.

    Attributes:
        study, system, seed: by name.
        identity: JSON-ready; everything else that decides what it measures.
    """

    study: str
    system: str
    seed: int
    identity: Mapping[str, Any]

    @property
    def file(self) -> str:
        """The name of its file."""
        whole = json.dumps(self.contents(), sort_keys=True).encode()
        digest = hashlib.sha256(whole).hexdigest()[:16]
        return f"{self.study}-{self.system}-{self.seed}-{digest}.json"

    def contents(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {**vars(self), "identity": dict(self.identity)}


@dataclass(frozen=True)
class Results:
    """The finished runs in a folder."""

    folder: Path

    def find(self, key: Key) -> Outcome | None:
        """What a run measured; None if it is not finished."""
        try:
            found = json.loads((self.folder / key.file).read_text())["outcome"]
            by_user = {
                axis: ByUser(np.array(one["values"]), np.array(one["weights"]))
                for axis, one in found["by_user"].items()
            }
            return Outcome(by_user, found["train_s"], found["parameters"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: Key, outcome: Outcome) -> None:
        """Write what a finished run measured."""
        by_user = {
            axis: {"values": one.values.tolist(), "weights": one.weights.tolist()}
            for axis, one in outcome.by_user.items()
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = {**key.contents(), "outcome": {**vars(outcome), "by_user": by_user}}
        write_json(self.folder / key.file, whole)


def code(packages: Iterable[Path]) -> str:
    """16 hex digits of what Python code does: those of its comments and docstrings left out."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted(package.glob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, Documented) and ast.get_docstring(node) is not None:
                    del node.body[0]
            digest.update(f"{package.name}/{path.name}".encode())
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]
