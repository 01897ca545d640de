"""Which edits mend a finding: those kinds whose remedy is mechanical, and does not need a person to look.

A kind that is not here needs one: annotations that are missing, images that are too dark, names that mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sam3_lora.data.edits import kinds
from sam3_lora.data.edits.kinds import AnyEdit
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.index.objects.box_layouts import AS_IN_COCO, LAYOUTS
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Dataset


@dataclass(frozen=True, slots=True)
class Remedy:
    """What mends a finding.

    Attributes:
        edits: that do.
        certain: whether it is right wherever the fault is one; otherwise it is one of several that a person chooses
            from, and is not part of "fix all".
    """

    edits: tuple[AnyEdit, ...]
    certain: bool = True

    @property
    def only_accepts(self) -> bool:
        """Whether nothing changes: reading has already done what can be done."""
        return all(isinstance(edit, kinds.Accept) for edit in self.edits)

    @property
    def only_excludes(self) -> bool:
        """Whether it leaves out what is concerned, and corrects nothing."""
        excluding = (kinds.ExcludeImages, kinds.ExcludeObjects, kinds.ExcludeCategories, kinds.Accept)
        return not self.only_accepts and all(isinstance(edit, excluding) for edit in self.edits)


@dataclass(frozen=True, slots=True)
class Context:
    """What remedies know besides the finding.

    Attributes:
        dataset: that it is of.
        suggestions: category -> a better phrase, as the doctor suggests.
    """

    dataset: Dataset
    suggestions: Mapping[str, str]


ALL = "all"
_Maker = Callable[[Finding, Context], Remedy | None]

# What was made of these faults when the dataset was read is all that can be done: nothing more of them is lost.
_AS_READ = (
    *("bad-image", "bad-image-size", "bad-category", "nameless-category", "bad-annotation", "unknown-image"),
    *("bad-bbox", "bad-iscrowd", "box-from-mask", "other-notation", "turned-boxes"),
    *("duplicate-annotation", "duplicate-annotation-id", "annotation-without-id", "image-elsewhere"),
    *("json-not-strict", "keys-not-read", "listed-category-unknown", "pair-repeated", "label-without-image"),
    *("bad-label-line", "label-line-odd", "keypoints-not-read", "labels-by-similar-name", "image-without-label-file"),
)
# Images that cannot be used as they are.
_UNUSABLE_IMAGES = (
    *("image-missing", "image-unreadable", "image-truncated", "path-outside-dataset", "link-outside-dataset"),
    *("bad-label-file", "labels-not-paired", "labels-in-other-format"),
)
_COPIES = ("identical-images", "leaked-images")


def remedy(finding: Finding, dataset: Dataset, suggestions: Mapping[str, str] | None = None) -> Remedy | None:
    """The edits that mend a finding; None if it needs a person, or another tool.

    Args:
        finding: of the dataset as it was opened, edits included, or of its examination.
        dataset: as opened.
        suggestions: of its examination (`Report.suggestions`).
    """
    maker = _MAKERS.get(finding.kind)
    found = maker(finding, Context(dataset, suggestions or {})) if maker else None
    return found if found is not None and found.edits else None


def remedies(
    findings: Iterable[Finding],
    dataset: Dataset,
    suggestions: Mapping[str, str] | None = None,
    wanted: Iterable[str] = (ALL,),
) -> tuple[AnyEdit, ...]:
    """The edits that mend several findings.

    Args:
        findings, dataset, suggestions: as for :func:`remedy`.
        wanted: kinds to mend; ALL: every kind whose remedy is certain.
    """
    chosen = set(wanted)
    edits: list[AnyEdit] = []
    for finding in findings:
        found = remedy(finding, dataset, suggestions) if chosen & {ALL, finding.kind} else None
        if found is not None and (found.certain or finding.kind in chosen):
            edits += found.edits
    return tuple(edits)


def kinds_with_remedy() -> tuple[str, ...]:
    """The kinds of findings that may have a remedy."""
    return tuple(_MAKERS)


def _accepted(finding: Finding, context: Context) -> Remedy:
    return Remedy((kinds.Accept((finding.kind,), finding.split),))


def _accepted_unless(*variants: str) -> _Maker:
    return lambda finding, context: None if finding.variant in variants else _accepted(finding, context)


def _without_images(finding: Finding, context: Context) -> Remedy:
    return Remedy((kinds.ExcludeImages(finding.split, finding.image_names),))


def _without_copies(finding: Finding, context: Context) -> Remedy:
    """Without the copies; the first image of each content stays."""
    return Remedy((kinds.ExcludeImages(finding.split, tuple(finding.places) or finding.image_names),))


def _object_edit(edit: type[kinds.ObjectEdits], *, certain: bool = True) -> _Maker:
    return lambda finding, context: Remedy((edit(finding.split, finding.places),) if finding.places else (), certain)


def _boxes_outside(finding: Finding, context: Context) -> Remedy:
    """Clipped, or read in the layout in which they would fit; where many are outside, a person has to look."""
    if finding.variant in LAYOUTS and finding.variant != AS_IN_COCO:
        return Remedy((kinds.ReadBoxes(finding.split, finding.variant),))
    return Remedy((kinds.Accept((finding.kind,), finding.split),), certain=finding.severity == "warning")


def _boxes_normalized(finding: Finding, context: Context) -> Remedy:
    if finding.variant in ("stray", "yolo"):
        return _accepted(finding, context)
    layout = finding.variant if finding.variant in LAYOUTS else AS_IN_COCO
    return Remedy((kinds.ReadBoxes(finding.split, layout, fractions=True),))


def _boxes_misread(finding: Finding, context: Context) -> Remedy:
    return Remedy((kinds.ReadBoxes(finding.split, finding.causes[0].name),))


def _keys(finding: Finding, context: Context) -> Remedy | None:
    """Read under the keys where they are, if it is clear which is which."""
    keys = finding.facts.get("keys", ())
    names = keys if isinstance(keys, tuple) else ()
    if finding.kind == "masks-wrong-key":
        return Remedy((kinds.ReadKeys(finding.split, {"segmentation": names[0]}),)) if len(names) == 1 else None
    if finding.variant == "" and len(names) == 1:
        return Remedy((kinds.ReadKeys(finding.split, {"annotations": names[0]}),))
    if finding.variant != "in-annotations":
        return None
    boxes = [name for name in names if "box" in name.lower()]
    masks = [name for name in names if "box" not in name.lower()]
    read = {key: found[0] for key, found in (("bbox", boxes), ("segmentation", masks)) if found}
    return Remedy((kinds.ReadKeys(finding.split, read),)) if max(len(boxes), len(masks)) == 1 else None  # type: ignore[arg-type]


def _same_entries(finding: Finding, context: Context) -> Remedy:
    edit = kinds.Accept((finding.kind,), finding.split)
    return Remedy((edit if finding.variant == "same-id" else kinds.MergeEntries(finding.split, finding.image_names),))


def _same_phrase(finding: Finding, context: Context) -> Remedy:
    first: dict[str, str] = {}
    names = {name: first.setdefault(phrase_of(name), name) for name in context.dataset.categories}
    return _renamed({name: one for name, one in names.items() if name != one})


def _plurals(finding: Finding, context: Context) -> Remedy:
    from sam3_lora.data.doctor.phrase_lints import simplest_names

    names = simplest_names(context.dataset.categories)
    return _renamed({name: one for name, one in names.items() if phrase_of(name) != phrase_of(one)})


def _better_phrases(finding: Finding, context: Context) -> Remedy:
    """As the doctor suggests."""
    from sam3_lora.data.doctor.phrase_lints import lint

    found = {name: lint(name) for name in context.suggestions}
    names = {
        name: better
        for name, better in context.suggestions.items()
        if (one := found[name]) and one.kind == finding.kind
    }
    return Remedy(_renamed(names).edits, certain=finding.kind == "phrase-run-together")


def _renamed(names: dict[str, str]) -> Remedy:
    return Remedy((kinds.RenameCategories(names),) if names else ())


def _names_of_nothing(finding: Finding, context: Context) -> Remedy:
    from sam3_lora.data.doctor.phrase_lints import lint

    lints = {name: lint(name) for name in context.dataset.categories}
    names = tuple(name for name, found in lints.items() if found is not None and found.kind == finding.kind)
    return Remedy((kinds.ExcludeCategories(names),) if names else (), certain=False)


def _unused(finding: Finding, context: Context) -> Remedy:
    """Only on request: a category without objects is a negative phrase."""
    used = set().union(*(split.images.categories_used() for split in context.dataset.splits.values()))
    asked = context.dataset.prompt_categories
    names = tuple(name for name in context.dataset.categories if name not in used and name in asked)
    return Remedy((kinds.ExcludeCategories(names),) if names else (), certain=False)


_MAKERS: dict[str, _Maker] = {
    **dict.fromkeys(_AS_READ, _accepted),
    **dict.fromkeys(_UNUSABLE_IMAGES, _without_images),
    **dict.fromkeys(_COPIES, _without_copies),
    "text-not-utf-8": _accepted_unless("guessed"),
    "unknown-category": _accepted_unless("shifted"),
    "boxes-outside-image": _boxes_outside,
    "boxes-normalized": _boxes_normalized,
    "boxes-misread": _boxes_misread,
    "annotations-wrong-key": _keys,
    "masks-wrong-key": _keys,
    "duplicate-file": _same_entries,
    "image-scaled": lambda finding, context: Remedy((kinds.FitToImage(finding.split),)),
    "crowds": lambda finding, context: Remedy((kinds.CrowdsToObjects(finding.split),), certain=False),
    "bad-segmentation": _object_edit(kinds.RemoveMask),
    "empty-mask": _object_edit(kinds.RemoveMask),
    "tiny-object": _object_edit(kinds.ExcludeObjects),
    "object-twice": _object_edit(kinds.ExcludeObjects),
    "object-vanishes": _object_edit(kinds.ExcludeObjects, certain=False),
    "box-mask-mismatch": _object_edit(kinds.BoxFromMask, certain=False),
    "polygon-crosses-itself": _object_edit(kinds.MaskAsRunLengths),
    "polygon-short-part": _object_edit(kinds.DropShortParts),
    "leaked-similar": lambda finding, context: Remedy(_without_images(finding, context).edits, certain=False),
    "similar-images": lambda finding, context: Remedy(_without_copies(finding, context).edits, certain=False),
    "same-phrase": _same_phrase,
    "phrase-plural": _plurals,
    "phrase-run-together": _better_phrases,
    "phrase-position": _better_phrases,
    "phrase-code": _better_phrases,
    "phrase-not-english": _better_phrases,
    "phrase-for-nothing": _names_of_nothing,
    "unused-category": _unused,
}
