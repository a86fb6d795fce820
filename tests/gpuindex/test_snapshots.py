"""Snapshots come back whole, or the one before does."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuindex import Index, IndexSettings, Rule, SnapshotUnsupported, snapshots

DENSITIES = [0.01, 0.05, 0.3, 0.9]
OFFSETS = {"ads": {"0": 12, "1": 3}, "ads-control": {"0": 9}}


def filled(new_index: Any, catalog: Any, ads: int = 700) -> tuple[Index, Any]:
    known = catalog.drawn(ads, DENSITIES)
    index = new_index(len(DENSITIES))
    batch = known.batch(slice(None))
    batch.targeting[5] = (Rule("age", frozenset({"30", "40"}), frozenset({"x=y"})),)
    index.apply(batch)
    index.apply_delivery(known.delivery())
    return index, known


def answer(index: Index, query: Any) -> tuple[list[int], list[int]]:
    found = index.publish().search(query, 100)
    return found.ad_ids.tolist(), found.scores.tolist()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


def test_a_restored_index_answers_and_goes_on_as_before(
    tmp_path: Path, new_index: Any, catalog: Any, new_query: Any, settings: IndexSettings
) -> None:
    index, known = filled(new_index, catalog)
    query = new_query(len(DENSITIES), "full", audience={"age": frozenset({"30"})})
    expected = answer(index, query)
    snapshots.write(index, tmp_path, OFFSETS, {"clock_ms": 5})
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    assert (loaded.offsets, loaded.extra) == (OFFSETS, {"clock_ms": 5})
    assert answer(loaded.index, query) == expected
    # Known versions came along: the same records again are old news.
    assert loaded.index.apply(known.batch(slice(None))).applied == 0
    assert loaded.index.apply(known.batch(slice(None), version=2)).applied == 700
    assert answer(loaded.index, query)[1] == answer(index, query)[1]


def test_an_empty_index_can_be_stored(
    tmp_path: Path, new_index: Any, settings: IndexSettings
) -> None:
    snapshots.write(new_index(0), tmp_path, {}, {})
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    assert sum(loaded.index.view.counts().values()) == 0


def test_no_snapshot_is_not_an_error(tmp_path: Path, settings: IndexSettings) -> None:
    assert snapshots.load_latest(tmp_path / "nothing", settings) is None


def test_unchanged_shards_are_written_once_and_unneeded_ones_deleted(
    tmp_path: Path, new_index: Any, catalog: Any
) -> None:
    index, known = filled(new_index, catalog)
    snapshots.write(index, tmp_path, OFFSETS, {})
    (shard,) = (tmp_path / "bases").iterdir()
    written = shard.stat().st_mtime_ns
    for version in range(2, 6):
        index.apply(known.batch(slice(0, 10), version))
        snapshots.write(index, tmp_path, OFFSETS, {})
    assert shard.stat().st_mtime_ns == written
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    for _ in range(2):
        snapshots.write(index, tmp_path, OFFSETS, {}, kept=2)
    assert len(list((tmp_path / "bases").iterdir())) == 1
    assert not shard.exists()
    assert len([path for path in tmp_path.iterdir() if path.name != "bases"]) == 2


def test_workers_share_the_shards_that_they_hold(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings, new_query: Any
) -> None:
    """One file on disk and in memory; it stays as long as one of them needs it."""
    index, known = filled(new_index, catalog)
    bases = tmp_path / "bases"
    first, second = (
        snapshots.write(index, tmp_path / worker, OFFSETS, {}, bases, kept=1)
        for worker in ("first", "second")
    )
    (base,) = bases.iterdir()
    assert base.stat().st_nlink == 3
    assert (first / base.name).samefile(second / base.name)
    loaded = snapshots.load_latest(tmp_path / "second", settings, bases)
    assert loaded is not None
    for version in (2, 3):
        index.apply(known.batch(slice(None), version))
        index.start_compaction(0)
        while index.compacting:
            index.maintain()
        snapshots.write(index, tmp_path / "first", OFFSETS, {}, bases, kept=1)
    assert not first.exists()
    assert base.stat().st_nlink == 2
    query = new_query(len(DENSITIES), "full")
    assert len(answer(loaded.index, query)[0]) == 100
    # A snapshot of what was restored links to what it was restored from.
    snapshots.write(loaded.index, tmp_path / "second", OFFSETS, {}, bases, kept=1)
    assert base.stat().st_nlink == 2


def test_a_restored_shard_is_mapped_and_cannot_be_written(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings
) -> None:
    index, _ = filled(new_index, catalog)
    snapshots.write(index, tmp_path, OFFSETS, {})
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    ((_, shard),) = loaded.index.sealed
    for name, array in shard.tensors().items():
        assert not array.size or not array.flags.writeable, name
        assert array.flags.aligned


DAMAGES = {
    "a bit of the state": lambda path: flip(path / "state.safetensors", -3),
    "a bit of the state's header": lambda path: flip(path / "state.safetensors", 20),
    "a bit of the manifest": lambda path: flip(path / "manifest.json", 30),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "an empty manifest": lambda path: (path / "manifest.json").write_bytes(b""),
    "a foreign manifest": lambda path: (path / "manifest.json").write_text('{"hello": 1}'),
    "a list for a manifest": lambda path: (path / "manifest.json").write_text("[1]"),
    "a truncated state": lambda path: (path / "state.safetensors").write_bytes(b"\x08"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_snapshot_gives_way_to_the_one_before(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings, damage: Any
) -> None:
    index, known = filled(new_index, catalog)
    snapshots.write(index, tmp_path, {"ads": {"0": 1}}, {})
    index.apply(known.batch(slice(0, 10), version=2))
    damage(snapshots.write(index, tmp_path, {"ads": {"0": 2}}, {}))
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    assert loaded.offsets == {"ads": {"0": 1}}
    # Writing goes on beside the damage.
    snapshots.write(loaded.index, tmp_path, {"ads": {"0": 3}}, {})
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    assert loaded.offsets == {"ads": {"0": 3}}


def forged(**entry: Any) -> bytes:
    """A file of the format whose one tensor lies about itself."""
    honest = {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}
    header = json.dumps({"ad_ids": {**honest, **entry}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(16)


SHARD_DAMAGES = {
    "a bit of the header's length": lambda path: flip(path, 3),
    "a bit of the header": lambda path: flip(path, 100),
    "a bit of the data": lambda path: flip(path, -1),
    "nothing left": lambda path: path.write_bytes(b""),
    "the length alone": lambda path: path.write_bytes(path.read_bytes()[:8]),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte too few": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "another file": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(1_000)),
    "a list for a header": lambda path: path.write_bytes(b"\x02" + bytes(7) + b"[]"),
    "a whole file of other tensors": lambda path: path.write_bytes(forged()),
    "an unknown type": lambda path: path.write_bytes(forged(dtype="F8")),
    "more data than there is": lambda path: path.write_bytes(
        forged(shape=[4], data_offsets=[0, 32])
    ),
    "data before the beginning": lambda path: path.write_bytes(forged(data_offsets=[-16, 0])),
    "a negative shape": lambda path: path.write_bytes(forged(shape=[-2])),
}


@pytest.mark.parametrize("damage", SHARD_DAMAGES.values(), ids=SHARD_DAMAGES.keys())
def test_a_damaged_shard_spoils_the_snapshots_that_hold_it(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings, damage: Any
) -> None:
    index, known = filled(new_index, catalog)
    snapshots.write(index, tmp_path, {"ads": {"0": 1}}, {})
    before = set((tmp_path / "bases").iterdir())
    index.apply(known.batch(slice(0, 10), version=2))
    snapshots.write(index, tmp_path, {"ads": {"0": 2}}, {})
    (new_shard,) = set((tmp_path / "bases").iterdir()) - before
    damage(new_shard)
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    assert loaded.offsets == {"ads": {"0": 1}}
    damage(before.pop())
    assert snapshots.load_latest(tmp_path, settings) is None
    # What is damaged is not linked again: the same shards are written anew.
    snapshots.write(index, tmp_path, {"ads": {"0": 3}}, {})
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    assert loaded.offsets == {"ads": {"0": 3}}


def test_a_draft_left_by_a_crash_is_not_a_snapshot(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings
) -> None:
    index, _ = filled(new_index, catalog)
    path = snapshots.write(index, tmp_path, {"ads": {"0": 1}}, {})
    (tmp_path / f"{int(path.name) + 1:012d}.draft").mkdir()
    assert snapshots.load_latest(tmp_path, settings).offsets == {"ads": {"0": 1}}
    snapshots.write(index, tmp_path, {"ads": {"0": 2}}, {})
    assert snapshots.load_latest(tmp_path, settings).offsets == {"ads": {"0": 2}}


def test_other_widths_than_the_settings_begin_anew(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings
) -> None:
    index, _ = filled(new_index, catalog)
    snapshots.write(index, tmp_path, OFFSETS, {})
    wider = IndexSettings(settings.embedding_width + 1, settings.payload_width)
    assert snapshots.load_latest(tmp_path, wider) is None


def test_a_newer_format_is_refused_and_not_passed_over(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings, monkeypatch: Any
) -> None:
    index, _ = filled(new_index, catalog)
    monkeypatch.setattr(snapshots, "FORMAT", snapshots.FORMAT + 1)
    path = snapshots.write(index, tmp_path, OFFSETS, {})
    monkeypatch.undo()
    assert json.loads((path / "manifest.json").read_bytes())
    with pytest.raises(SnapshotUnsupported, match=path.name):
        snapshots.load_latest(tmp_path, settings)


def test_an_older_format_is_passed_over(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings, monkeypatch: Any
) -> None:
    index, _ = filled(new_index, catalog)
    monkeypatch.setattr(snapshots, "FORMAT", snapshots.FORMAT - 1)
    snapshots.write(index, tmp_path, OFFSETS, {})
    monkeypatch.undo()
    assert snapshots.load_latest(tmp_path, settings) is None


def test_slots_stay_right_when_dead_ads_lie_between_the_shards(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings, new_query: Any
) -> None:
    """A delete after the restore must hit the ad that it names."""
    index, known = filled(new_index, catalog, 900)
    for version in (2, 3):
        index.seal()
        index.apply(known.batch(slice(100 * version, 100 * version + 300), version))
    snapshots.write(index, tmp_path, OFFSETS, {})
    loaded = snapshots.load_latest(tmp_path, settings)
    assert loaded is not None
    batch = known.batch(slice(150, 350), version=9)
    batch.deleted[:] = True
    for each in (index, loaded.index):
        each.apply(batch)
        each.apply_delivery(known.delivery())
    query = new_query(len(DENSITIES), "full")
    assert answer(loaded.index, query) == answer(index, query)
    assert not np.isin(answer(loaded.index, query)[0], batch.ad_ids).any()


def test_workers_that_write_and_delete_the_same_shards_at_once_lose_none(
    tmp_path: Path, new_index: Any, catalog: Any, settings: IndexSettings
) -> None:
    """Equal ads make equal shards: each worker links, writes and prunes what the others do."""
    bases = tmp_path / "bases"
    rounds = 25

    def live(worker: int) -> list[dict[str, Any]]:
        index, known = filled(new_index, catalog, ads=40)
        found = []
        for version in range(2, 2 + rounds):
            index.apply(known.batch(slice(None), version))
            index.seal()
            index.start_compaction(0)
            while index.compacting:
                index.maintain()
            offsets = {"ads": {"0": version}}
            folder = tmp_path / str(worker)
            snapshots.write(index, folder, offsets, {}, bases, kept=1)
            loaded = snapshots.load_latest(folder, settings, bases)
            found.append(None if loaded is None else loaded.offsets)
        return found

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(live, range(4)))
    expected = [{"ads": {"0": version}} for version in range(2, 2 + rounds)]
    assert results == [expected] * 4
    # What is left is somebody's. Two that write at the same moment may have a file each.
    (base,) = bases.iterdir()
    assert base.stat().st_nlink >= 2
