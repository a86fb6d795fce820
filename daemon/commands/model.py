"""`headwater model`: what a checkpoint is, whether it is whole, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from model import inspection
from model.checkpoints import CheckpointError, CheckpointMissing, read_manifest

from ..failure import Failed
from ..settings import ConfigurationError
from . import options
from .output import show

app = typer.Typer(no_args_is_help=True, help="The models' checkpoints.")

T = TypeVar("T")

# Of a difference on a screen: lists of a hundred entries say little there.
LINE = 200

NAME = "Name under state_dir/checkpoints, or a folder."

Name = Annotated[str, typer.Argument(help=NAME, metavar="CHECKPOINT")]


@app.command()
def inspect(
    name: Name,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Tell what a checkpoint is: version, schema, settings, metrics, data, libraries, tensors."""
    folder = _folder(name, config, assignments)
    found = {"checkpoint": str(folder), **_read(lambda: inspection.describe(folder))}
    show(found if as_json else _brief(found), as_json)


@app.command()
def verify(
    name: Name,
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Check every file against its checksum, and that the model loads; exit code 1 if not."""
    folder = _folder(name, config, assignments)
    problems = _read(lambda: inspection.verify(folder)) or _loading(folder)
    show({"checkpoint": str(folder), "whole": not problems, "problems": problems}, as_json)
    if problems:
        raise typer.Exit(1)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(help=NAME, metavar="ONE")],
    other: Annotated[str, typer.Argument(help=NAME, metavar="OTHER")],
    config: options.Config = None,
    assignments: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Tell what two checkpoints differ in, as `key: one -> other`; exit code 1 if in anything."""
    folders = [_folder(name, config, assignments) for name in (one, other)]
    differing = _read(lambda: inspection.compare(*folders))
    if not as_json:
        differing = {part: [_cut(line) for line in lines] for part, lines in differing.items()}
    show({"equal": not differing, **differing}, as_json)
    if differing:
        raise typer.Exit(1)


def _folder(name: str, config: Path | None, assignments: list[str] | None) -> Path:
    """A checkpoint by its name; a path, which has a slash, is taken as it is."""
    if "/" in name:
        return Path(name)
    return options.settings(config, assignments).checkpoints / name


def _read(look: Callable[[], T]) -> T:
    try:
        return look()
    except CheckpointMissing as error:
        raise ConfigurationError(str(error)) from error
    except CheckpointError as error:
        raise Failed(str(error)) from error


def _loading(folder: Path) -> list[str]:
    """What a worker would say that loads it."""
    # Imported here: torch takes seconds that other verbs need not wait.
    from ..training import Kind, load

    try:
        load(Kind(read_manifest(folder)["kind"]), folder)
    except (CheckpointError, ValueError) as error:
        return [str(error)]
    return []


def _brief(found: Mapping[str, Any]) -> dict[str, Any]:
    """A description for a screen: one line a setting, no list of tensors."""
    left_out = {"files", "report", "tensors"}
    brief = {part: value for part, value in found.items() if part not in left_out}
    window = brief["data_window"].items()
    brief["data_window"] = {name: f"{at_ms} ({_date(at_ms)})" for name, at_ms in window}
    brief["tensors"] = len(found["tensors"])
    return dict(_lines("", brief))


def _lines(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case {}:
            for key, inner in value.items():
                yield from _lines(f"{path}.{key}" if path else key, inner)
        case [{}, *_]:
            yield path, f"{len(value)} entries"
        case [*_]:
            yield path, ", ".join(str(inner) for inner in value)
        case _:
            yield path, value


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(" ", "seconds")


def _cut(line: str) -> str:
    return line if len(line) <= LINE else f"{line[:LINE]}..."
