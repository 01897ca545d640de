"""Routing by phrase: the adapter answers the phrases that it was taught, the base model all others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sam3_lora.data.prompts import could_mean, normalized, phrase_of
from sam3_lora.model.adapter_files import taught_phrases


@dataclass(frozen=True)
class Routing:
    """Which phrases the adapter answers.

    Attributes:
        taught: in lower case and single spaces, each once, none of them blank.
    """

    taught: tuple[str, ...]

    def __post_init__(self) -> None:
        distinct = dict.fromkeys(normalized(phrase) for phrase in self.taught if phrase_of(phrase))
        object.__setattr__(self, "taught", tuple(distinct))

    @classmethod
    def of(cls, adapter: Path | None, taught: Iterable[str] = ()) -> Routing | None:
        """The routing of an adapter; None where nobody knows its phrases.

        Args:
            adapter: its folder; None for the base model alone, which has nothing to route.
            taught: phrases to use instead of those that are stored with the adapter.

        Raises:
            ModelError: the stored ones cannot be read.
        """
        if adapter is None:
            return None
        routing = cls(tuple(taught) or taught_phrases.read(adapter) or ())
        return routing if routing.taught else None

    def is_taught(self, phrase: str) -> bool:
        """Whether the adapter answers a phrase: a taught one, its plural or a close wording (see `could_mean`)."""
        asked = phrase_of(phrase)
        return asked in self._compared or any(could_mean(asked, one) for one in self._compared)

    @cached_property
    def _compared(self) -> dict[str, None]:
        """The taught phrases as they are compared, "t-shirt" as "t shirt", in their order."""
        return dict.fromkeys(map(phrase_of, self.taught))
