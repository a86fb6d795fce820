"""The directory of workers: the last claim counts."""

import pytest

from stream.directory import Directory, Listing, decode_listing, encode_listing
from stream.errors import Rejected


def test_the_last_claim_of_a_partition_counts_also_after_a_death_without_a_word() -> None:
    directory = Directory()
    directory.note("a", Listing("http://a", (0, 1, 2)))
    directory.note("b", Listing("http://b", (2, 3)))
    assert [directory.url_of(number) for number in range(5)] == [
        "http://a",
        "http://a",
        "http://b",
        "http://b",
        None,
    ]
    directory.note("b", Listing("http://b:2", (3,)))
    assert [directory.url_of(number) for number in (2, 3)] == [None, "http://b:2"]


def test_a_worker_that_left_owns_nothing() -> None:
    directory = Directory()
    directory.note("a", Listing("http://a", (0,)))
    directory.note("a", None)
    directory.note("never there", None)
    assert directory.url_of(0) is None
    assert directory.workers() == {}


def test_a_listing_is_written_as_it_is_read() -> None:
    listing = Listing("http://host:8080", (0, 7))
    assert encode_listing(listing) == b'{"url":"http://host:8080","partitions":[0,7]}'
    assert decode_listing(encode_listing(listing)) == listing
    with pytest.raises(Rejected):
        decode_listing(b"{}")
