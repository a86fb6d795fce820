"""The exact names of features: "field=value" to dense numbers and back."""

from collections.abc import Iterable


class FeatureDictionary:
    """Feature keys numbered in order of arrival; a number is never reused.

    One thread interns; any thread may look up.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = list(keys)
        self._numbers = {key: number for number, key in enumerate(self._keys)}
        self._fields: dict[str, list[int]] = {}
        for number, key in enumerate(self._keys):
            self._fields.setdefault(key.partition("=")[0], []).append(number)

    def __len__(self) -> int:
        return len(self._keys)

    def intern(self, key: str) -> int:
        """The feature's number, given one now if it has none."""
        number = self._numbers.get(key)
        if number is None:
            number = len(self._keys)
            # The key first, so that a number another thread finds has its key.
            self._keys.append(key)
            self._numbers[key] = number
            self._fields.setdefault(key.partition("=")[0], []).append(number)
        return number

    def find(self, key: str) -> int:
        """The feature's number, or -1."""
        return self._numbers.get(key, -1)

    def key(self, number: int) -> str:
        """The feature's key; IndexError if there is no such number."""
        if number < 0:
            raise IndexError(number)
        return self._keys[number]

    def numbers(self, field: str) -> list[int]:
        """The numbers of all features of a field, ascending, a copy."""
        return self._fields.get(field, []).copy()

    def keys(self) -> list[str]:
        """All keys by number, a copy."""
        return self._keys.copy()

    def memory_bytes(self) -> int:
        """About what the dictionary takes: three references, a number, the text."""
        return 190 * len(self._keys)
