"""The documents cannot rot: what they name exists, and what exists is named."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from daemon import cli
from daemon.settings import Settings
from monitoring import metrics
from stream.topics import topic_specs

ROOT = Path(__file__).resolve().parent.parent

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
# Systems in benchmark rows, which look like metrics.
SYSTEMS = {"headwater_ranked", "headwater_ranker", "headwater_retriever"}
EXPOSED_SUFFIX = {"counter": "_total", "info": "_info"}


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    return sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")})


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def links(path: Path) -> Iterator[str]:
    """Targets of a document's links, those on the web left out."""
    for target in LINK.findall(FENCE.sub("", read(path))):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(path: Path) -> set[str]:
    """Names of a document's headings, as links call them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(path)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@cache
def for_users() -> str:
    """What users and operators are told: the documents, other than past decisions."""
    return "\n".join(read(path) for path in documents() if "decisions" not in path.parts)


@cache
def code() -> str:
    """The code in it, fenced or in the line."""
    return "\n".join(CODE.findall(for_users()))


def is_named(name: str) -> bool:
    return f"`{name}`" in for_users()


def is_shown(command: str) -> bool:
    return re.search(rf"\b{command}\b", code()) is not None


def settings() -> set[str]:
    return {
        f"{section}.{key}"
        for section, field in Settings.model_fields.items()
        for key in field.annotation.model_fields
    }


def metric_names() -> set[str]:
    return {
        family.name + EXPOSED_SUFFIX.get(family.type, "")
        for family in metrics.REGISTRY.collect()
        if family.name.startswith("headwater_")
    }


def verbs() -> set[str]:
    """Every command, such as "broker start"."""

    def walk(group: TyperGroup, path: str) -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                yield from walk(command, f"{path}{name} ")
            else:
                yield path + name

    return set(walk(typer.main.get_group(cli.app), ""))


def topics() -> set[str]:
    """Every topic; those of dead letters by the rule that names them."""
    return {re.sub(r"^.+(?=\.dlq$)", "<topic>", spec.name) for spec in topic_specs("")}


def make_verbs() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*## ", read(ROOT / "Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path: Path) -> None:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link} names no heading"


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.suffix == ".md":
            reached.add(path)
            waiting += [(path.parent / link.partition("#")[0]).resolve() for link in links(path)]
    assert set(documents()) - reached == set()


@pytest.mark.parametrize("setting", sorted(settings()))
def test_every_setting_is_documented(setting: str) -> None:
    assert is_named(setting)


@pytest.mark.parametrize("metric", sorted(metric_names()))
def test_every_metric_is_documented(metric: str) -> None:
    assert is_named(metric)


@pytest.mark.parametrize("topic", sorted(topics()))
def test_every_topic_is_documented(topic: str) -> None:
    assert is_named(topic)


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_is_documented(verb: str) -> None:
    assert is_shown(f"headwater {verb}")


@pytest.mark.parametrize("verb", sorted(make_verbs()))
def test_every_make_verb_is_documented(verb: str) -> None:
    assert is_shown(f"make {verb}")


def test_documents_name_no_setting_that_does_not_exist() -> None:
    sections = "|".join(Settings.model_fields)
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", for_users()))
    modules = {name for name in named if (ROOT / (name.replace(".", "/") + ".py")).is_file()}
    assert named - modules <= settings()


def test_documents_name_no_metric_that_does_not_exist() -> None:
    named = set(re.findall(r"\bheadwater_[a-z_]+", for_users())) - SYSTEMS
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= metric_names()


def test_documents_name_no_verb_that_does_not_exist() -> None:
    named = set(re.findall(r"(?:^|[\s`/$])headwater ([a-z]+)", code()))
    assert named <= {verb.split()[0] for verb in verbs()}


def test_no_verb_is_said_to_be_missing_that_exists() -> None:
    (line,) = re.findall(r"^Not in this version: (.+)$", for_users(), re.MULTILINE)
    missing = re.findall(r"`headwater ([a-z ]+)`", line)
    assert missing
    assert not verbs() & set(missing)


def test_documents_name_no_make_verb_that_does_not_exist() -> None:
    assert set(re.findall(r"\bmake ([a-z]+)\b", code())) <= make_verbs()
