"""Schemas: which fields the models read, in which order, and which of them are made of others.

Owns the names and the order of item, profile and context fields and of actions. Promises that two
schemas with one hash encode every record alike. Turning values into numbers is `model.features`.
How recent, how often and how much is no field: the models read it from the histories themselves.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .derived import ClockPart, Derivation, DerivationInvalid, parse, render


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
        derived: how those of the fields are made that no record carries.
    """

    item_fields: tuple[str, ...]
    profile_fields: tuple[str, ...] = ()
    context_fields: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    hash_seed: int = 0
    derived: Mapping[str, Derivation] = field(default_factory=dict, hash=False)

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
        for name, derivation in self.derived.items():
            self._check(name, derivation)

    def _check(self, name: str, derivation: Derivation) -> None:
        if isinstance(derivation, ClockPart):
            if name not in self.context_fields or name in self.item_fields + self.profile_fields:
                raise SchemaInvalid(f"derived.{name}: a clock belongs in context_fields alone")
        elif name not in self.item_fields + self.profile_fields + self.context_fields:
            raise SchemaInvalid(f"derived.{name} is none of the fields")
        elif derivation.source in self.derived:
            raise SchemaInvalid(f"derived.{name}: {derivation.source} is itself derived")
        elif name == self.item_fields[0]:
            raise SchemaInvalid(f"derived.{name}: the item itself cannot be derived")

    @property
    def hash(self) -> str:
        """16 hex digits that differ whenever any field, its order or the seed differs."""
        canonical = json.dumps(self.to_dict(), separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def action_id(self, action: str) -> int:
        """Position of the action + 1; 0 for an action outside the schema."""
        return self.actions.index(action) + 1 if action in self.actions else 0

    def source(self, name: str) -> str | None:
        """The field that a record carries for one of these; None for a clock's."""
        derivation = self.derived.get(name)
        if derivation is None:
            return name
        return None if isinstance(derivation, ClockPart) else derivation.source

    def read_from(self, name: str, there: Container[str]) -> str | None:
        """Which of the fields that are there one of these is read from; None if from none.

        Where the source of a derived field is not there, the field itself may be: logs of what was
        served have it.
        """
        for candidate in (self.source(name), name):
            if candidate is not None and candidate in there:
                return candidate
        return None

    def carried(self, columns: Container[str]) -> list[str]:
        """The item fields of records that have these columns, in order."""
        return [name for name in self.item_fields if self.read_from(name, columns)]

    def derive(self, features: Mapping[str, Iterable[str]]) -> dict[str, str]:
        """The derived item fields of one item that there is a value for."""
        made = {}
        for name, derivation in self.derived.items():
            if name in self.item_fields and not isinstance(derivation, ClockPart):
                text = next(iter(features.get(derivation.source, ())), None)
                value = None if text is None else derivation.value(text)
                if value is not None:
                    made[name] = value
        return made

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON and TOML can hold it."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if name != "derived"
        }
        # Left out where there is none: schemas without it have one hash with and without the key.
        if self.derived:
            values["derived"] = {name: render(made) for name, made in self.derived.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """The inverse of `to_dict`.

        Raises:
            SchemaInvalid: a key is unknown, missing or of the wrong type.
        """
        known = {attribute.name for attribute in fields(cls)}
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
    if name == "derived":
        if not isinstance(value, Mapping) or not all(
            isinstance(v, Mapping) for v in value.values()
        ):
            raise SchemaInvalid(f"derived {value!r} is not a table of tables")
        try:
            return {field_name: parse(table) for field_name, table in value.items()}
        except DerivationInvalid as error:
            raise SchemaInvalid(f"derived: {error}") from error
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise SchemaInvalid(f"{name} {value!r} is not a list of strings")
    return tuple(value)
