"""Finds the edits that mend a dataset, and says in numbers what edits change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sam3_lora.data.edits.kinds import EditList
from sam3_lora.data.edits.remedies import ALL, remedies, remedy
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.records import Dataset, Split

_ROUNDS = 5  # what is mended may show another fault: a duplicate among the annotations of merged entries

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Examined:
    """A dataset and what is wrong with it.

    Attributes:
        dataset: as opened.
        findings: of opening it, and of the doctor if it was examined.
        suggestions: category -> a better phrase, if it was examined.
        deep: whether the doctor has read every image.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    suggestions: dict[str, str] = field(default_factory=dict)
    deep: bool = False

    @classmethod
    def of(cls, dataset: Dataset, *, deep: bool, progress: Progress | None = None) -> Examined:
        """Examines a dataset.

        Args:
            dataset: as opened.
            deep: whether to read every image, as the doctor does.
            progress: of reading the images.
        """
        if not deep:
            return cls(dataset, dataset.findings)
        from sam3_lora.data.doctor import examine

        report = examine(dataset, progress)
        return cls(dataset, report.findings, report.suggestions, deep=True)


def mend(
    start: Examined,
    open_with: Callable[[EditList], Dataset],
    edits: EditList,
    wanted: Iterable[str] = (ALL,),
    progress: Progress | None = None,
) -> tuple[EditList, Examined]:
    """Adds edits until no finding is left that one of them mends.

    What opening the dataset finds is mended first: boxes that are misread would look like other faults.

    Args:
        start: the dataset with `edits`; if it was examined by the doctor, the doctor's findings are mended, too.
        open_with: opens the dataset with edits.
        edits: to begin with.
        wanted: kinds of findings to mend; ALL: every kind whose remedy is certain.
        progress: of reading the images.

    Returns:
        All edits, and the dataset as it then is.
    """
    chosen = set(wanted)
    examined = start
    for _ in range(_ROUNDS):
        begun, dataset = edits, examined.dataset
        for _ in range(_ROUNDS):
            more = edits.plus(remedies(dataset.findings, dataset, wanted=chosen))
            if more == edits:
                break
            edits, dataset = more, open_with(more)
        if edits == begun:  # else what the doctor found may be gone
            edits = edits.plus(remedies(examined.findings, dataset, examined.suggestions, chosen))
            if edits == begun:
                break
            dataset = open_with(edits)
        examined = Examined.of(dataset, deep=start.deep, progress=progress)
    return edits, examined


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a dataset or a split has.

    Attributes:
        images, objects, masks, crowds: how many of them.
        categories: with an object.
    """

    images: int = 0
    objects: int = 0
    masks: int = 0
    crowds: int = 0
    categories: int = 0

    @classmethod
    def of(cls, split: Split) -> Numbers:
        """Counts a split."""
        images = split.images
        return cls(
            images=len(images),
            objects=split.num_objects,
            masks=int((images.has_segmentation & ~images.iscrowd).sum()),
            crowds=split.num_crowds,
            categories=sum(count > 0 for count in split.objects_per_category().values()),
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What edits change in a dataset.

    Attributes:
        numbers: by split, before and after.
        mended, left, new: findings as (kind, split): that are gone, that stay, and that are only there afterwards.
    """

    numbers: dict[str, tuple[Numbers, Numbers]]
    mended: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...]
    new: tuple[tuple[str, str], ...]


def changes(before: Examined, after: Examined) -> Changes:
    """Compares a dataset without edits, or with fewer, and with them."""
    was, now = (tuple((finding.kind, finding.split) for finding in one.findings) for one in (before, after))
    return Changes(
        count(before.dataset, after.dataset),
        mended=tuple(one for one in was if one not in now),
        left=tuple(one for one in was if one in now),
        new=tuple(one for one in now if one not in was),
    )


def count(before: Dataset, after: Dataset) -> dict[str, tuple[Numbers, Numbers]]:
    """What each split has, before and after; nothing where it is not there."""
    names = dict.fromkeys((*before.splits, *after.splits))
    counted = ({name: Numbers.of(split) for name, split in one.splits.items()} for one in (before, after))
    was, now = counted
    return {name: (was.get(name, Numbers()), now.get(name, Numbers())) for name in names}


@dataclass(frozen=True, slots=True)
class Preview:
    """What mending one finding would do.

    Attributes:
        edits: with those that mend it.
        dataset: opened with them.
        numbers: by split, before and after.
        images: (split, file name) of the first images concerned, as they are named before, to show before and after.
        certain: see :class:`sam3_lora.data.edits.remedies.Remedy`.
    """

    edits: EditList
    dataset: Dataset
    numbers: dict[str, tuple[Numbers, Numbers]]
    images: tuple[tuple[str, str], ...]
    certain: bool


def preview(
    finding: Finding, before: Examined, edits: EditList, open_with: Callable[[EditList], Dataset], images: int = 3
) -> Preview | None:
    """What mending a finding would do; None if no edit mends it. No image is read.

    Args:
        finding: one of `before`.
        before: the dataset with `edits`.
        edits: so far.
        open_with: opens the dataset with edits.
        images: how many to show at most.
    """
    found = remedy(finding, before.dataset, before.suggestions)
    if found is None:
        return None
    more = edits.plus(found.edits)
    after = open_with(more)
    names = list(finding.places or finding.image_names)
    splits = [finding.split] if finding.split in before.dataset.splits else list(before.dataset.splits)
    shown: list[tuple[str, str]] = []
    for split in splits:
        known = set(before.dataset.splits[split].images.names)
        shown += [(split, name) for name in names if name in known]
    return Preview(more, after, count(before.dataset, after), tuple(shown[:images]), found.certain)
