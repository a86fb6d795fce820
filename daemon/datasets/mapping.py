"""The column map: how the columns of somebody's data become Headwater's fields, as a TOML file.

Owns the keys of that file and their checks. Promises that a map which loads is consistent in
itself. Whether the files have those columns is seen when they are read, in `parquet`; data in
Kafka's topics have the fields' own names, and need a schema alone.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.schema import Schema, SchemaInvalid

from ..settings import ConfigurationError, told

Unit = Literal["s", "ms", "us"]


class Rows(BaseModel):
    """One kind of rows: where they are, and which column is what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: str = Field(min_length=1, description="Parquet files, a pattern beside the map")
    fields: dict[str, str] = Field(
        default={}, description="field = column, where the two have different names"
    )


class Events(Rows):
    """What users did."""

    user_id: str = Field(default="user_id", description="column of the user")
    time: str = Field(default="time_ms", description="column of the moment")
    unit: Unit = Field(default="ms", description="of times that are numbers")
    action: str | None = Field(default=None, description="column of what was done")
    always: str | None = Field(default=None, description="the action, where all events are alike")
    value: str | None = Field(default=None, description="column of a number, such as money")

    @model_validator(mode="after")
    def _one_action(self) -> Events:
        if (self.action is None) == (self.always is None):
            raise ValueError("give action, a column, or always, the name of the only action")
        return self


class Users(Rows):
    """Profiles."""

    user_id: str = Field(default="user_id", description="column of the user")


class Ads(Rows):
    """Ads with their flights."""

    ad_id: str = Field(default="ad_id", description="column of the ad")
    start: str = Field(default="start_ms", description="column of the first moment; null: always")
    end: str = Field(default="end_ms", description="column of the first moment after; null: open")
    unit: Unit = Field(default="ms", description="of times that are numbers")


class Impressions(Rows):
    """Which ads users were shown, and what came of it."""

    user_id: str = Field(default="user_id", description="column of the user")
    time: str = Field(default="time_ms", description="column of the moment")
    unit: Unit = Field(default="ms", description="of times that are numbers")
    visit_id: str = Field(default="visit_id", description="column of what was shown together")
    ad_id: str = Field(default="ad_id", description="column of the ad")
    engage: str = Field(default="engage", description="column: true or above 0 if it was taken")
    consume: str | None = Field(default=None, description="column of the deeper outcome")


class Files(BaseModel):
    """All kinds of rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Events
    users: Users | None = None
    ads: Ads
    impressions: Impressions | None = None


class DataMap(BaseModel):
    """A whole map; without `files` the data are the topics of the configured Kafka."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    fields: Schema
    folder: Path
    period_days: float = Field(
        default=7.0, gt=0, description="the retriever learns from the ads of one period at a time"
    )
    negatives: int = Field(
        default=20, ge=1, description="passed-over ads of one taken, where there are no impressions"
    )
    attribution_hours: float = Field(
        default=24.0, gt=0, description="of topics: so long after it was served an ad is credited"
    )
    files: Files | None = None

    @property
    def rows(self) -> Files:
        """The files' rows.

        Raises:
            ConfigurationError: the map is one of topics.
        """
        if self.files is None:
            raise ConfigurationError("the column map has no [files.events] and [files.ads]")
        return self.files


# What TOML, the schema and pydantic's constructor say of a file that is none of theirs.
_UNREADABLE = (
    tomllib.TOMLDecodeError,
    UnicodeDecodeError,
    RecursionError,
    SchemaInvalid,
    TypeError,
)


def load(path: Path) -> DataMap:
    """Read a map: the keys of `DataMap`, and the schema as the table `schema`.

    Raises:
        ConfigurationError: it cannot be read; or the key that is wrong.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        schema = Schema.from_dict(values.pop("schema", {}))
        return DataMap(fields=schema, folder=path.parent, **values)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; give an existing TOML file") from None
    except _UNREADABLE as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except ValidationError as error:
        lines = "; ".join(_line(problem) for problem in error.errors())
        raise ConfigurationError(f"{path}: {lines}") from None


def _line(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    return f"{key}: {told(problem)}" if key else told(problem)
