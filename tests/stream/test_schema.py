"""The schemas that are shipped are those of the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grpc_tools import protoc

from stream import wire
from stream.codec import encode_ad
from stream.records import MAX_ID, Ad
from stream.schema import FOLDER, RECORDS, pages, schema

WIRE = Path(wire.__file__).parent


def test_the_json_schemas_are_those_of_the_records() -> None:
    assert {path: path.read_text("utf-8") for path in FOLDER.glob("*")} == dict(pages())


@pytest.mark.parametrize("title", RECORDS)
def test_a_json_schema_has_every_key_and_forbids_no_other(title: str) -> None:
    """Unknown keys are ignored, so that a newer producer's records are valid too."""
    page = schema(title)
    assert list(page["properties"]) == list(RECORDS[title].__struct_fields__)
    assert '"additionalProperties": false' not in json.dumps(page)


def test_ids_are_decimal_strings_in_the_json_schemas() -> None:
    request: dict[str, Any] = schema("score-requests")["properties"]
    assert request["user_id"]["type"] == "string"
    ids = next(kind for kind in request["candidates"]["anyOf"] if kind["type"] == "array")
    assert ids["items"]["type"] == "string"
    assert request["seed"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": MAX_ID}
    assert schema("user-events")["properties"]["ad_id"]["anyOf"][0]["type"] == "string"


def test_what_is_written_has_the_keys_of_its_schema() -> None:
    written = json.loads(encode_ad(Ad(1)))
    assert list(written) == list(schema("ads")["properties"])


def test_the_protobuf_module_is_compiled_from_the_schema(tmp_path: Path) -> None:
    """Whatever the compiler's version: the descriptor and the types are compared."""
    arguments = ["protoc", f"-I{WIRE}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main([*arguments, "headwater.proto"]) == 0
    for folder in (WIRE, tmp_path):
        assert len(descriptors(folder)) == 1
    assert descriptors(WIRE) == descriptors(tmp_path)
    stub = "headwater_pb2.pyi"
    assert (WIRE / stub).read_text("utf-8") == (tmp_path / stub).read_text("utf-8")


def descriptors(folder: Path) -> list[str]:
    module = (folder / "headwater_pb2.py").read_text("utf-8")
    return [line for line in module.splitlines() if line.startswith("DESCRIPTOR = ")]
