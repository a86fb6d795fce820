"""Schemas: which fields the models read, and in which order.

Owns the names and the order of item, profile and context fields and of actions. Promises that two
schemas with one hash encode every record alike. Turning values into numbers is `model.features`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


class SchemaInvalid(ValueError):
    """A schema names a field twice, an illegal field, or has an unknown or missing key."""


@dataclass(frozen=True)
class Schema:
    """The fields of one side of the data, in the order of every encoded array.

    The first item field names the item itself (`product`): two ads that share its value sell the
    same thing, and an event that carries it concerns every ad of that thing.

    Attributes:
        item_fields: F names; column f of every `items` array is item_fields[f].
        profile_fields: U names of the user's profile, sent with each request.
        context_fields: C names of the request's context; an event may carry them too.
        actions: kinds of user events; action id = position + 1, 0 = any other.
        hash_seed: seed of the raw ids; another seed is another schema.
    """

    item_fields: tuple[str, ...]
    profile_fields: tuple[str, ...] = ()
    context_fields: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    hash_seed: int = 0

    def __post_init__(self) -> None:
        if not self.item_fields:
            raise SchemaInvalid("item_fields is empty: name at least the field of the item itself")
        for kind in ("item_fields", "profile_fields", "context_fields", "actions"):
            names = getattr(self, kind)
            if len(set(names)) != len(names):
                raise SchemaInvalid(f"{kind} names one field twice: {list(names)}")
            for name in names:
                if not name or "=" in name:
                    raise SchemaInvalid(f"{kind}: {name!r} is empty or contains '='")
        if not 0 <= self.hash_seed < 2**63:
            raise SchemaInvalid(f"hash_seed {self.hash_seed} is not in 0..2^63-1")

    @property
    def hash(self) -> str:
        """16 hex digits that differ whenever any field, its order or the seed differs."""
        canonical = json.dumps(self.to_dict(), separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def action_id(self, action: str) -> int:
        """Position of the action + 1; 0 for an action outside the schema."""
        return self.actions.index(action) + 1 if action in self.actions else 0

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON and TOML can hold it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """The inverse of `to_dict`.

        Raises:
            SchemaInvalid: a key is unknown, missing or of the wrong type.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SchemaInvalid(f"unknown schema keys {unknown}; allowed: {sorted(known)}")
        if "item_fields" not in values:
            raise SchemaInvalid("item_fields is missing")
        return cls(**{name: _checked(name, value) for name, value in values.items()})

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a TOML file whose top level holds the schema's keys.

        Raises:
            SchemaInvalid: the file is not TOML or not a schema.
            OSError: the file cannot be read.
        """
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, SchemaInvalid) as error:
            raise SchemaInvalid(f"{path}: {error}") from error


def _checked(name: str, value: Any) -> Any:
    if name == "hash_seed":
        if not isinstance(value, int) or isinstance(value, bool):
            raise SchemaInvalid(f"hash_seed {value!r} is not an integer")
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise SchemaInvalid(f"{name} {value!r} is not a list of strings")
    return tuple(value)
