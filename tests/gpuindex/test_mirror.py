"""What a device holds of an index: each thing once, no longer than needed, within its memory."""

import dataclasses
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cuda_simulator.launch import Schedule
from simulated_gpu import SimulatedGpu

from gpuindex import Index, IndexSettings, IndexView, MemoryBudgetExceeded
from gpuindex.kernels.cpu.shards import PAGE_SLOTS
from gpuindex.kernels.cpu.states import STATE
from gpuindex.kernels.cuda import device

DENSITIES = [0.02, 0.3, 0.9]


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    """A device that keeps arrays, and is asked to launch nothing here."""
    before = device.current()
    simulated = SimulatedGpu(Schedule())
    device.use(simulated)
    yield simulated
    device.use(before)


@pytest.fixture
def new_index(settings: IndexSettings, gpu: SimulatedGpu) -> Callable[..., Index]:
    def made(**rest: Any) -> Index:
        index = Index(dataclasses.replace(settings, device="cuda", **rest))
        for feature in range(len(DENSITIES)):
            index.features.intern(f"f={feature}")
        return index

    return made


def compact(index: Index) -> IndexView:
    index.start_compaction(0)
    while index.compacting:
        index.maintain()
    return index.publish()


def shards_of(view: IndexView) -> Any:
    assert view.device is not None
    return view.device.shards


def used(index: Index) -> int:
    """Bytes of the device."""
    return sum(size for part, size in index.memory().items() if part.startswith("device_"))


def test_a_shard_is_copied_once_for_all_views_that_hold_it(new_index: Any, catalog: Any) -> None:
    index = new_index()
    known = catalog.drawn(900, DENSITIES)
    index.apply(known.batch(slice(0, 400)))
    index.seal()
    first = index.publish()
    index.apply(known.batch(slice(400, 800)))
    index.seal()
    second = index.publish()
    assert shards_of(second)[0] is shards_of(first)[0]
    assert len(shards_of(second)) == 2


def test_a_shard_goes_with_the_last_view_that_holds_it(new_index: Any, catalog: Any) -> None:
    index = new_index()
    index.apply(catalog.drawn(400, DENSITIES).batch(slice(None)))
    index.seal()
    held = index.publish()
    copied = [weakref.ref(array) for shard in shards_of(held) for array in shard.arrays]
    assert compact(index).counts()["base"] == 400
    gc.collect()
    assert all(each() is not None for each in copied)
    del held
    gc.collect()
    assert all(each() is None for each in copied)


def test_a_publication_copies_what_changed_and_no_more(
    new_index: Any, catalog: Any, gpu: SimulatedGpu
) -> None:
    """An ad that is updated, and another's delivery state: a page of states each."""
    index = new_index()
    known = catalog.drawn(6_000, DENSITIES)
    index.apply(known.batch(slice(None)))
    index.seal()
    index.apply(known.batch(slice(0, 3), version=2))
    index.publish()
    all_bytes = gpu.copied_bytes
    index.apply(known.batch(slice(7, 8), version=2))
    delivery = known.delivery()
    index.apply_delivery(
        type(delivery)(**{name: column[:1] for name, column in vars(delivery).items()})
    )
    index.publish()
    pages = 2 * PAGE_SLOTS * (STATE.itemsize + 4)
    assert pages < gpu.copied_bytes - all_bytes < pages + 500
    copied = gpu.copied_bytes
    index.publish()
    assert gpu.copied_bytes == copied


def test_the_tail_is_appended_to_in_place(new_index: Any, catalog: Any) -> None:
    index = new_index()
    known = catalog.drawn(100, DENSITIES)
    index.apply(known.batch(slice(0, 50)))
    first = index.publish()
    before = first.device.tail.ad_ids[:50].tolist()
    index.apply(known.batch(slice(50, 100)))
    second = index.publish()
    assert second.device.tail.ad_ids is first.device.tail.ad_ids
    assert second.device.tail.ad_ids[:100].tolist() == before + known.ad_ids[50:].tolist()
    assert (first.device.tail.ads, second.device.tail.ads) == (50, 100)


def test_memory_names_what_the_device_holds(new_index: Any, catalog: Any) -> None:
    index = new_index()
    index.apply(catalog.drawn(300, DENSITIES).batch(slice(None)))
    index.publish()
    in_tail = index.memory()
    index.seal()
    index.publish()
    sealed = index.memory()
    assert in_tail["device_shards"] == 0
    assert in_tail["device_tail"] >= 300 * (8 + 4 + 8)
    ((_, shard),) = index.sealed
    assert sealed["device_shards"] == sum(each.nbytes for each in shard.table_arrays().values())
    assert sealed["device_slots"] >= 8 * 300
    assert Index(dataclasses.replace(index.settings, device="cpu")).memory().keys() == {
        part for part in sealed if not part.startswith("device_")
    }


@pytest.mark.parametrize("limited_by", ["budget", "device"])
@pytest.mark.parametrize("size", [40, 500])
def test_the_device_is_never_filled_beyond_what_it_may_hold(
    new_index: Any, catalog: Any, gpu: SimulatedGpu, size: int, limited_by: str
) -> None:
    """Neither by ads nor by seals, nor by a fold, whose result stands beside its origins."""
    more_bytes = 4_000_000
    limit = used(new_index(seal_ads=500)) + more_bytes
    total = limit if limited_by == "device" else 1 << 40
    index = new_index(
        seal_ads=500, device_memory_budget_bytes=limit if limited_by == "budget" else None
    )
    known = catalog.drawn(60_000, DENSITIES)
    refused = None
    for start in range(0, 60_000, size):
        gpu.memory_bytes = total - used(index)
        try:
            index.apply(known.batch(slice(start, start + size)))
        except MemoryBudgetExceeded as error:
            refused = error
            break
        while index.tail.ads >= 500:
            index.seal()
        index.publish()
        assert used(index) <= limit
    assert refused is not None
    assert "device" in str(refused)
    held = index.publish()
    index.seal()
    index.publish()
    before = used(index) - index.memory()["device_search"]
    compact(index)
    assert before + used(index) <= limit
    assert sum(held.counts().values()) == start


def test_a_shard_that_does_not_fit_is_refused_before_it_is_copied(
    new_index: Any, catalog: Any, gpu: SimulatedGpu
) -> None:
    """As when an index of another machine is restored."""
    index = new_index()
    index.apply(catalog.drawn(3_000, DENSITIES).batch(slice(None)))
    index.seal()
    gpu.memory_bytes = 1_000
    with pytest.raises(MemoryBudgetExceeded, match="which has 1000 left"):
        index.publish()


class Interrupted:
    """A device that does something else before each launch, as a second thread may."""

    def __init__(self, behind: SimulatedGpu, interrupt: Callable[[], None]) -> None:
        self._behind = behind
        self._interrupt = interrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def launch(self, *arguments: Any) -> None:
        self._interrupt()
        self._behind.launch(*arguments)


def test_publications_between_the_launches_of_a_search_change_nothing_of_its_answer(
    new_index: Any, catalog: Any, new_query: Any, gpu: SimulatedGpu
) -> None:
    """All launches and copies are on one queue, so this is how two threads can meet there."""
    index = new_index(seal_ads=40)
    known = catalog.drawn(150, DENSITIES)
    index.apply_delivery(known.delivery())
    index.apply(known.batch(slice(None)))
    index.seal()
    index.apply(known.batch(slice(0, 20), version=2))
    view = index.publish()
    query = new_query(len(DENSITIES), "full")
    expected = known.best(query, 30)
    changed = dataclasses.replace(known, weights=255 - known.weights, open=~known.open)
    versions = itertools.count(3)

    def rewrite() -> None:
        """Some ads, all delivery states, and a piece of tidying."""
        version = next(versions)
        first = 20 * (version % 7)
        index.apply(changed.batch(slice(first, first + 20), version))
        delivery = changed.delivery()
        index.apply_delivery(dataclasses.replace(delivery, versions=delivery.versions + version))
        index.maintain()
        index.publish()

    device.use(Interrupted(gpu, rewrite))
    found = view.search(query, 30)
    assert (found.ad_ids.tolist(), found.scores.tolist()) == expected
    assert next(versions) > 20
    assert index.compactions
    changed_found = index.publish().search(query, 30)
    assert changed_found.scores.tolist() != found.scores.tolist()
