"""Findings, the problems of a dataset as facts; and the collector that gathers them while a split is read."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sam3_lora.data.findings import messages
from sam3_lora.data.findings.messages import Fact
from sam3_lora.text import short_repr

Severity = Literal["error", "warning", "info"]
MAX_LOCATIONS = 50
MAX_CAUSES = 8
_SEVERITY_OF: dict[str, Severity] = {
    **dict.fromkeys(messages.ERRORS, "error"),
    **dict.fromkeys(messages.WARNINGS, "warning"),
    **dict.fromkeys(messages.INFOS, "info"),
}
_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}
_KIND_RANK = {kind: rank for rank, kind in enumerate(messages.WORDINGS)}
_NOTHING = object()
# Kinds of which every place is noted, since an edit mends them one by one (data/edits/remedies.py).
PLACE_KINDS = frozenset(
    ("empty-mask", "tiny-object", "object-vanishes", "object-twice", "box-mask-mismatch")
    + ("polygon-crosses-itself", "polygon-short-part", "bad-segmentation", "identical-images", "similar-images")
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a problem is.

    Attributes:
        image: file name.
        annotation: its id.
        detail: what is there, shortened.
    """

    image: str | None = None
    annotation: int | str | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = [self.image] if self.image is not None else []
        place += [f"annotation {self.annotation}"] if self.annotation is not None else []
        return ": ".join(part for part in (", ".join(place), self.detail) if part)


@dataclass(frozen=True, slots=True)
class Cause:
    """One of several causes of a kind of problem.

    Attributes:
        name: the same for problems with the same cause; a key of :data:`sam3_lora.data.findings.messages.CAUSES`, where
            the place alone does not show it.
        count: how often it occurs.
        first: where it was met first.
    """

    name: str
    count: int
    first: Location

    def __str__(self) -> str:
        words = messages.CAUSES.get(self.name, "")
        return f"{words} ({'the first: ' if self.count > 1 else ''}{_short(self.first)})".lstrip()


def _short(place: Location) -> str:
    return textwrap.shorten(str(place), 200, placeholder="...")


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem in one split. It holds facts only: its sentences are made by messages.py.

    Attributes:
        kind: in kebab case, a key of :data:`sam3_lora.data.findings.messages.WORDINGS`.
        severity: "error" (something is lost or learned wrongly), "warning" (something is used only in part) or "info".
        count: how often it occurs.
        split: its name, or "" for the whole dataset.
        locations: the first ones, at most MAX_LOCATIONS.
        image_names: the file names of all images concerned, each once, in the order in which they were met.
        variant: the cause or the format, where the sentences depend on it ("corners", "yolo"); "" if they do not.
        facts: further numbers and names that the sentences need.
        causes: the most frequent ones, where the problem may have several.
        places: of PLACE_KINDS only: all of them, file name -> ids of its annotations, none if it is the image itself.
    """

    kind: str
    severity: Severity
    count: int
    split: str = ""
    locations: tuple[Location, ...] = ()
    image_names: tuple[str, ...] = ()
    variant: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    places: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """One sentence: what is wrong, and where it was met first; with several causes, where each was."""
        text = messages.message(self.kind, self.variant, self.count, self.facts)
        if len(self.causes) > 1 or any(cause.name in messages.CAUSES for cause in self.causes):
            several = len(self.causes) > 1
            causes = [f"{cause.count:,} x {cause}" if several else str(cause) for cause in self.causes]
            return f"{text}: {'; '.join(causes)}."
        first = _short(self.locations[0]) if self.locations else ""
        if first:
            text += f" (the first: {first})" if self.count > 1 else f" ({first})"
        return text + "."

    @property
    def fix(self) -> str:
        """One sentence: what to do about it."""
        return messages.fix(self.kind, self.variant, self.count, self.facts) + "."


@dataclass(slots=True)
class _Draft:
    """A finding while it is collected."""

    severity: Severity | None = None
    count: int = 0
    locations: list[Location] = field(default_factory=list)
    image_names: dict[str, None] = field(default_factory=dict)  # a dict, to keep their order
    variant: str = ""
    facts: dict[str, Fact] = field(default_factory=dict)
    causes: dict[str, Cause] = field(default_factory=dict)
    places: dict[str, list[int | str]] = field(default_factory=dict)


class FindingCollector:
    """Collects the findings of one split while it is read.

    Args:
        split: its name, or "" for the whole dataset.
        format: "yolo" where the words differ from those for COCO, else "".
    """

    def __init__(self, split: str = "", format: str = "") -> None:
        self.split, self._format = split, format
        self._drafts: defaultdict[str, _Draft] = defaultdict(_Draft)

    def add(
        self,
        kind: str,
        image: str | None = None,
        annotation: int | str | None = None,
        detail: str = "",
        *,
        value: Any = _NOTHING,
        severity: Severity | None = None,
        causes: tuple[str, ...] = (),
        **facts: Fact,
    ) -> None:
        """Counts one occurrence of a kind.

        Args:
            kind: a key of :data:`sam3_lora.data.findings.messages.WORDINGS`.
            image: the file name of the image.
            annotation: its id.
            detail: what is there, in words.
            value: instead of `detail`: the value itself, of any type.
            severity: of this occurrence, if not that of the kind; the worst one counts.
            causes: names of causes, see :class:`Cause`.
            facts: numbers and names for the sentences, of the first occurrence.
        """
        draft = self._drafts[kind]
        draft.count += 1
        draft.facts = {**facts, **draft.facts}
        if severity is not None and (draft.severity is None or _RANK[severity] < _RANK[draft.severity]):
            draft.severity = severity
        if image is not None:
            draft.image_names[image] = None
            if kind in PLACE_KINDS:
                draft.places.setdefault(image, []).extend([] if annotation is None else [annotation])
        place = Location(image, annotation, detail if value is _NOTHING else short_repr(value))
        if len(draft.locations) < MAX_LOCATIONS:
            draft.locations.append(place)
        for name in causes:
            known = draft.causes.get(name)
            draft.causes[name] = Cause(name, 1, place) if known is None else replace(known, count=known.count + 1)

    def describe(self, kind: str, *, variant: str = "", severity: Severity | None = None, **facts: Fact) -> None:
        """Sets what holds for a kind as a whole, if it occurs.

        Args:
            kind: of the findings.
            variant: which words fit.
            severity: instead of that of the kind.
            facts: numbers and names for the sentences.
        """
        if kind in self._drafts:
            draft = self._drafts[kind]
            draft.variant, draft.severity = variant or draft.variant, severity or draft.severity
            draft.facts.update(facts)

    def mention(self, kind: str, images: Iterable[str]) -> None:
        """Adds images that a kind also concerns, without counting them."""
        self._drafts[kind].image_names |= dict.fromkeys(images)

    def resume(self, finding: Finding) -> None:
        """Continues with a finding from when the dataset was opened."""
        names = dict.fromkeys(finding.image_names)
        self._drafts[finding.kind] = _Draft(
            finding.severity,
            finding.count,
            [*finding.locations],
            names,
            finding.variant,
            dict(finding.facts),
            {cause.name: cause for cause in finding.causes},
            {image: list(keys) for image, keys in finding.places.items()},
        )

    def forget(self, kind: str, image: str) -> None:
        """Removes what was found of a kind in an image."""
        if not self.concerns(kind, image):
            return
        draft = self._drafts[kind]
        del draft.image_names[image]
        draft.locations = [place for place in draft.locations if place.image != image]
        draft.places.pop(image, None)
        draft.count = len(draft.image_names)

    def count(self, kind: str) -> int:
        """How often a kind has occurred so far."""
        return self._drafts[kind].count if kind in self._drafts else 0

    def concerns(self, kind: str, image: str) -> bool:
        """Whether a kind was found in an image."""
        return kind in self._drafts and image in self._drafts[kind].image_names

    def collected(self) -> list[Finding]:
        """What was found, in the order of :func:`by_severity`."""
        return by_severity(self._finding(kind, draft) for kind, draft in self._drafts.items() if draft.count)

    def _finding(self, kind: str, draft: _Draft) -> Finding:
        return Finding(
            kind=kind,
            severity=draft.severity or _SEVERITY_OF[kind],
            count=draft.count,
            split=self.split,
            locations=tuple(draft.locations),
            image_names=tuple(draft.image_names),
            variant=self._format if (kind, self._format) in messages.VARIANTS else draft.variant,
            facts=draft.facts,
            causes=tuple(sorted(draft.causes.values(), key=lambda cause: -cause.count)[:MAX_CAUSES]),
            places={image: tuple(keys) for image, keys in draft.places.items()},
        )


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then infos; among equals in the order of the tables of words."""
    return sorted(findings, key=lambda finding: (_RANK[finding.severity], _KIND_RANK[finding.kind]))
