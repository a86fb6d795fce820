"""The kernel that reads ads in JSON.

Owns a grammar narrower than JSON's and the codec's: whatever it takes, `stream.codec` takes and
means the same by; whatever needs a second look it leaves to it. Strings hold no escape, numbers
are short decimals, no key comes twice. Bytes beyond ASCII are not checked here: they are valid
where they are those of a known feature, and all others are given to Python to read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuindex.kernels.cpu.compiled import (
    fixed,
    int32,
    int64,
    kernel,
    uint8,
    uint64,
    uncounted,
    written,
)
from gpuindex.kernels.cpu.keys import ABSENT, BASIS, EQUALS, equal, find, hashed

# What a record of a batch came to.
LEFT = 0
TAKEN = 1

# Behind the records, so that an ad that names no owner has a place to point to.
OWNERS = b"advertisercampaign"

# More fields, or weighted values of one field, than that are not searched for repetitions.
REPEATS = 64
MOST_FEATURES = 4_096
# Any number of so many digits is exact as float64, and so is the power of ten that it is divided
# by: one division rounds as reading the text does.
DIGITS = 15
VERSION_DIGITS = 18

_QUOTE, _BACKSLASH, _COMMA, _COLON, _POINT = (np.uint8(ord(c)) for c in '"\\,:.')
_OPEN_MAP, _CLOSE_MAP, _OPEN_LIST, _CLOSE_LIST = (np.uint8(ord(c)) for c in "{}[]")
_ZERO, _NINE, _SPACE = (np.uint8(ord(c)) for c in "09 ")
_ASCII = np.uint8(0x7F)

_VERSION, _ADVERTISER, _CAMPAIGN, _FEATURES, _TARGETING = (
    np.frombuffer(name, np.uint8)
    for name in (b"version", b"advertiser", b"campaign", b"features", b"targeting")
)
_TENS = 10.0 ** np.arange(DIGITS + 1)


@uncounted
def _past_space(text: Any, at: int, end: int) -> Any:
    while at < end and (text[at] == _SPACE or text[at] - np.uint8(9) <= 1 or text[at] == 13):
        at += 1
    return at


@uncounted
def _plain(text: Any, at: int, end: int, digest: Any) -> Any:
    """Read a string whose quote is behind.

    Returns:
        Its end, or -1 if it is not plain; the digest with its bytes; all its bits in one byte.
    """
    bits = np.uint8(0)
    while at < end:
        byte = text[np.uint64(at)]
        if byte == _QUOTE:
            return at, digest, bits
        if byte < _SPACE or byte == _BACKSLASH:
            break
        digest = hashed(digest, byte)
        bits |= byte
        at += 1
    return np.int64(-1), digest, bits


@uncounted
def _is(text: Any, begin: int, end: int, name: Any) -> Any:
    return end - begin == len(name) and equal(name, 0, text, begin, end)


@uncounted
def _digit(byte: Any) -> Any:
    return _ZERO <= byte <= _NINE


@uncounted
def _whole(text: Any, at: int, end: int, most: int) -> Any:
    """Read an integer without sign; its end, or -1, and its value."""
    begin = at
    number = np.int64(0)
    while at < end and _digit(text[at]) and at - begin < most:
        number = number * 10 + np.int64(text[at] - _ZERO)
        at += 1
    if at == begin or (text[begin] == _ZERO and at - begin > 1):
        return np.int64(-1), number
    return at, number


@uncounted
def _weight(text: Any, at: int, end: int) -> Any:
    """Read a decimal of 0 to 1; its end, or -1, and its value."""
    behind, number = _whole(text, at, end, 1)
    decimals = 0
    if behind >= 0 and behind + 1 < end and text[behind] == _POINT and _digit(text[behind + 1]):
        behind += 1
        while behind < end and _digit(text[behind]) and decimals < DIGITS - 1:
            number = number * 10 + np.int64(text[behind] - _ZERO)
            decimals += 1
            behind += 1
    weight = np.float64(number) / _TENS[decimals]
    return behind if weight <= 1.0 else np.int64(-1), weight


@uncounted
def _repeated(seen: Any, count: int, digest: Any) -> Any:
    """Whether a digest is among those seen, or there is no room to tell; then it is one of them."""
    if count == len(seen):
        return True
    for n in range(count):
        if seen[n] == digest:
            return True
    seen[count] = digest
    return False


@uncounted
def _note(unknown: Any, left: int, place: int, field: Any, value: Any) -> Any:
    """Write down where an unknown feature stands; how many there are now, or -1 without room."""
    if left == len(unknown):
        return np.int64(-1)
    unknown[left, 0] = place
    unknown[left, 1], unknown[left, 2] = field
    unknown[left, 3], unknown[left, 4] = value
    return left + 1


@uncounted
def _features(
    text: Any,
    at: int,
    end: int,
    arena: Any,
    table: Any,
    watched: Any,
    ids: Any,
    weights: Any,
    unknown: Any,
    firsts: Any,
    row: int,
    fields: Any,
    values: Any,
    count: int,
    left: int,
) -> Any:
    """Read the map of features; its bracket is behind.

    Returns:
        Its end, or -1, and how many features and unknown ones there are now.
    """
    taken = 0
    refused = np.int64(-1), count, left
    named = 0
    at = _past_space(text, at, end)
    if at < end and text[at] == _CLOSE_MAP:
        return at + 1, count, left
    while at < end and text[at] == _QUOTE:
        begin = at + 1
        behind, digest, name_bits = _plain(text, begin, end, BASIS)
        if behind <= begin or _repeated(fields, named, digest):
            return refused
        named += 1
        for letter in range(begin, behind):
            if text[letter] == EQUALS:
                return refused
        column = 0
        while column < len(watched) and watched[column] != digest:
            column += 1
        field = begin, behind
        digest = hashed(digest, EQUALS)
        at = _past_space(text, behind + 1, end)
        if at >= end or text[at] != _COLON:
            return refused
        at = _past_space(text, at + 1, end)
        if at >= end or (text[at] != _OPEN_LIST and text[at] != _OPEN_MAP):
            return refused
        weighted = text[at] == _OPEN_MAP
        close = _CLOSE_MAP if weighted else _CLOSE_LIST
        at = _past_space(text, at + 1, end)
        if at < end and text[at] == close:
            if name_bits > _ASCII:
                return refused
        else:
            several = 0
            while True:
                if at >= end or text[at] != _QUOTE or taken == MOST_FEATURES:
                    return refused
                taken += 1
                begin = at + 1
                at, key, bits = _plain(text, begin, end, digest)
                if at < 0:
                    return refused
                value = begin, at
                weight = 1.0
                at = _past_space(text, at + 1, end)
                if weighted:
                    if at >= end or text[at] != _COLON or _repeated(values, several, key):
                        return refused
                    several += 1
                    at, weight = _weight(text, _past_space(text, at + 1, end), end)
                    if at < 0:
                        return refused
                    at = _past_space(text, at, end)
                if weight > 0.0:
                    if column < len(watched) and firsts[row, column] == ABSENT:
                        firsts[row, column] = count
                    weights[count] = max(np.rint(weight * 255.0), 1.0)
                    ids[count] = find(arena, table, key, text, field, value)
                    if ids[count] == ABSENT:
                        left = _note(unknown, left, count, field, value)
                        if left < 0:
                            return refused
                    count += 1
                elif (name_bits | bits) > _ASCII:
                    return refused
                if at >= end or text[at] != _COMMA:
                    break
                at = _past_space(text, at + 1, end)
            if at >= end or text[at] != close:
                return refused
        # That a field is there without a value can mean something to the models.
        if column < len(watched) and firsts[row, column] == ABSENT:
            return refused
        at = _past_space(text, at + 1, end)
        if at < end and text[at] == _CLOSE_MAP:
            return at + 1, count, left
        if at >= end or text[at] != _COMMA:
            return refused
        at = _past_space(text, at + 1, end)
    return refused


@uncounted
def _quoted(text: Any, at: int, end: int) -> Any:
    """The range of a string whose quote is at `at`; its end is -1 if it is not plain."""
    begin = at + 1
    behind, _, _ = _plain(text, begin, end, BASIS)
    return begin, behind


@uncounted
def _map(text: Any, at: int, end: int) -> Any:
    """The range of what is a map from `at` on if brackets match; its end is -1 if they do not."""
    begin = at
    depth = 0
    while at < end:
        byte = text[at]
        if byte == _QUOTE:
            at, _, _ = _plain(text, at + 1, end, BASIS)
            if at < 0:
                break
        elif byte == _OPEN_MAP:
            depth += 1
        elif byte == _CLOSE_MAP:
            depth -= 1
            if depth == 0:
                return begin, at + 1
        at += 1
    return begin, np.int64(-1)


@uncounted
def _ad(
    text: Any,
    at: int,
    end: int,
    arena: Any,
    table: Any,
    watched: Any,
    ids: Any,
    weights: Any,
    unknown: Any,
    firsts: Any,
    row: int,
    fields: Any,
    values: Any,
    count: int,
    left: int,
) -> Any:
    """Read one ad.

    Returns:
        Whether it is one; its version; the ranges of its advertiser, campaign and targeting, empty
        ones where it has none; how many features and unknown ones there are now.
    """
    nothing: Any = np.int64(0), np.int64(0)
    advertiser, campaign, targeting = nothing, nothing, nothing
    version = np.int64(-1)
    had_features = False
    refused = False, version, nothing, nothing, nothing, count, left
    at = _past_space(text, at, end)
    if at >= end or text[at] != _OPEN_MAP:
        return refused
    while True:
        at = _past_space(text, at + 1, end)
        if at >= end or text[at] != _QUOTE:
            return refused
        begin = at + 1
        behind, _, _ = _plain(text, begin, end, BASIS)
        if behind < 0:
            return refused
        at = _past_space(text, behind + 1, end)
        if at >= end or text[at] != _COLON:
            return refused
        at = _past_space(text, at + 1, end)
        if at >= end:
            return refused
        if _is(text, begin, behind, _VERSION) and version < 0:
            at, version = _whole(text, at, end, VERSION_DIGITS)
        elif _is(text, begin, behind, _FEATURES) and not had_features and text[at] == _OPEN_MAP:
            had_features = True
            at, count, left = _features(
                text,
                at + 1,
                end,
                arena,
                table,
                watched,
                ids,
                weights,
                unknown,
                firsts,
                row,
                fields,
                values,
                count,
                left,
            )
        elif _is(text, begin, behind, _ADVERTISER) and not advertiser[1] and text[at] == _QUOTE:
            advertiser = _quoted(text, at, end)
            at = advertiser[1] + 1
        elif _is(text, begin, behind, _CAMPAIGN) and not campaign[1] and text[at] == _QUOTE:
            campaign = _quoted(text, at, end)
            at = campaign[1] + 1
        elif _is(text, begin, behind, _TARGETING) and not targeting[1] and text[at] == _OPEN_MAP:
            targeting = _map(text, at, end)
            at = targeting[1]
        else:
            return refused
        if at <= 0:
            return refused
        at = _past_space(text, at, end)
        if at < end and text[at] == _CLOSE_MAP:
            break
        if at >= end or text[at] != _COMMA:
            return refused
    if version < 0 or _past_space(text, at + 1, end) != end:
        return refused
    if targeting[1] and text[_past_space(text, targeting[0] + 1, end)] == _CLOSE_MAP:
        targeting = nothing
    return True, version, advertiser, campaign, targeting, count, left


@kernel(
    fixed(uint8),
    fixed(int64),
    fixed(uint8),
    fixed(int64),
    fixed(uint8),
    fixed(int64, 2),
    fixed(uint64),
    written(uint8),
    written(int64),
    written(int64),
    written(int32),
    written(int32),
    written(uint8),
    written(int64, 2),
    written(int64, 2),
    written(int32, 2),
    written(uint8),
    written(uint64, 2),
    counted=False,
)
def read_ads(
    text: Any,
    text_bounds: Any,
    keys: Any,
    key_bounds: Any,
    arena: Any,
    table: Any,
    watched: Any,
    outcomes: Any,
    ad_ids: Any,
    versions: Any,
    bounds: Any,
    ids: Any,
    weights: Any,
    unknown: Any,
    targeting: Any,
    firsts: Any,
    named: Any,
    seen: Any,
) -> int:
    """Read the ads that can be read here.

    B records; F features at most, advertisers and campaigns included; W watched fields; U unknown
    features at most. The known features are as in `keys.insert`.

    Args:
        text: [...] uint8, the values one after another, and OWNERS behind.
        text_bounds: [B + 1] int64, each value's range.
        keys: [...] uint8, the message keys.
        key_bounds: [B + 1] int64, each key's range.
        arena, table: the known features.
        watched: [W] uint64, digests of fields.
        outcomes: [B] uint8, the result: TAKEN, or LEFT, which has no features here.
        ad_ids, versions: [B] int64, the result.
        bounds: [B + 1] int32, the result: each record's range of features, the last two of which
            are its advertiser and its campaign.
        ids: [F] int32, the result: features, ABSENT where they are unknown.
        weights: [F] uint8, the result, 255 = 1.0.
        unknown: [U, 5] int64, the result: place among `ids`, range of the field, range of the
            value, both in `text`.
        targeting: [B, 2] int64, the result: range of the rules in `text`.
        firsts: [B, W] int32, the result: place among `ids` of the first value of each watched
            field, or ABSENT.
        named: [B] uint8, the result: whether the advertiser has a name.
        seen: [2, REPEATS] uint64, scratch.

    Returns:
        How many unknown features there are.
    """
    fields, values = seen[0], seen[1]
    owners = text_bounds[len(outcomes)]
    split = owners + len(_ADVERTISER)
    advertiser_field, campaign_field = (owners, split), (split, split + len(_CAMPAIGN))
    _, advertiser_digest, _ = _plain(text, owners, split, BASIS)
    _, campaign_digest, _ = _plain(text, split, split + len(_CAMPAIGN), BASIS)
    advertiser_digest = hashed(advertiser_digest, EQUALS)
    campaign_digest = hashed(campaign_digest, EQUALS)
    count = left = 0
    bounds[0] = 0
    for b in range(len(outcomes)):
        outcomes[b] = LEFT
        bounds[b + 1] = count
        begin, end = key_bounds[b], key_bounds[b + 1]
        behind, ad_ids[b] = _whole(keys, begin, end, VERSION_DIGITS)
        if behind != end:
            continue
        firsts[b, :] = ABSENT
        whole, versions[b], advertiser, campaign, rules, features, unread = _ad(
            text,
            text_bounds[b],
            text_bounds[b + 1],
            arena,
            table,
            watched,
            ids,
            weights,
            unknown,
            firsts,
            b,
            fields,
            values,
            count,
            left,
        )
        if not whole:
            continue
        _, digest, _ = _plain(text, advertiser[0], advertiser[1], advertiser_digest)
        ids[features] = find(arena, table, digest, text, advertiser_field, advertiser)
        if ids[features] == ABSENT:
            unread = _note(unknown, unread, features, advertiser_field, advertiser)
        _, digest, _ = _plain(text, campaign[0], campaign[1], campaign_digest)
        ids[features + 1] = find(arena, table, digest, text, campaign_field, campaign)
        if ids[features + 1] == ABSENT and unread >= 0:
            unread = _note(unknown, unread, features + 1, campaign_field, campaign)
        if unread < 0:
            continue
        weights[features] = weights[features + 1] = 255
        outcomes[b] = TAKEN
        targeting[b, 0], targeting[b, 1] = rules
        named[b] = advertiser[0] < advertiser[1]
        bounds[b + 1] = count = features + 2
        left = unread
    return left
