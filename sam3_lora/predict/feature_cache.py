"""Keeps the features used last, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

V = TypeVar("V")


class FeatureCache(Generic[V]):
    """A cache that drops what was used longest ago.

    Args:
        max_bytes: of all entries together; the entry added last stays even if it is larger.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Of all entries together."""
        return sum(size for _, size in self._entries.values())

    def get(self, key: Hashable) -> V | None:
        """An entry, which is now the one used last; None if there is none."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def clear(self) -> None:
        """Drops all entries."""
        self._entries.clear()

    def put(self, key: Hashable, value: V, num_bytes: int) -> None:
        """Adds an entry and drops those used longest ago beyond `max_bytes`."""
        self._entries[key] = value, num_bytes
        self._entries.move_to_end(key)
        total = self.num_bytes
        while total > self.max_bytes and len(self._entries) > 1:
            _, (_, dropped) = self._entries.popitem(last=False)
            total -= dropped


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Of all tensors together."""
    return sum(one.numel() * one.element_size() for one in tensors)
