"""The repository as a whole: what it may contain and how it is installed."""

import ast
import re
import subprocess
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("daemon", "gpuindex", "model", "monitoring", "stream")
# The largest thing worth a commit is a dashboard or the lock file.
MAX_FILE_BYTES = 1_000_000
MAX_MODULE_LINES = 500

PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,]+\])?==[^\s;]+(?: ;[^\\]*)? \\$")
REGISTRY = re.compile(r"https?://\S*/(?:simple|maven2)\b|index-url[= ]http")
HOME = re.compile(r"/(?:root|home|Users)/")


def tracked() -> list[Path]:
    """Every file that is, or is about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file()]


def modules() -> list[Path]:
    """Every module of the five packages that has a line."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in paths if path.stat().st_size)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def locked_lines() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith((" ", "#"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_ships_our_package_name(package: str) -> None:
    """`daemon` is also python-daemon's name: whichever is found first would win."""
    assert set(packages_distributions().get(package, ())) <= {"headwater"}
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


def test_the_distribution_cannot_be_uploaded() -> None:
    """Its top-level names would break other environments."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]


def test_the_lock_pins_every_distribution_with_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert [line for line in locked_lines() if not PINNED.match(line)] == []
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_lock_holds_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    declared = [*project["dependencies"], *extras]
    names = {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in declared}
    assert names <= {match[1] for line in locked_lines() if (match := PINNED.match(line))}


def test_no_file_names_a_registry_or_a_home_folder() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name(path)}: {m[0]}" for m in (REGISTRY.search(text), HOME.search(text)) if m]
    assert found == []


def test_no_large_file_is_tracked() -> None:
    assert [name(path) for path in tracked() if path.stat().st_size > MAX_FILE_BYTES] == []


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a_module_opens_with_what_it_owns(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.partition("\n")[0][-1] in ".?"


def test_modules_are_short_and_have_telling_names() -> None:
    long = [name(p) for p in modules() if p.read_bytes().count(b"\n") > MAX_MODULE_LINES]
    vague = [name(p) for p in modules() if p.stem in {"utils", "helpers", "manager", "common"}]
    assert long + vague == []


def test_nothing_reads_or_writes_pickles() -> None:
    """A pickle runs code when it is read: checkpoints and states are safetensors and JSON."""
    banned = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    roots = {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    roots = {module.partition(".")[0]}
                case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" as attr):
                    roots = {"pickle", attr}
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                    roots = {"pickle"}
                case _:
                    continue
            found += [f"{name(path)}:{node.lineno}"] if roots & banned else []
    assert found == []


def test_test_folders_are_no_packages() -> None:
    """With importlib's import mode an __init__.py would shadow the package it mirrors."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_help_lists_every_make_verb() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^make ([a-z]+)", shown.stdout, re.MULTILINE) == phony[1].split()


def test_ci_runs_what_people_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec make test")
