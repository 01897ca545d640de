"""Examines a dataset: reads every image once, looks at every object, and says what is wrong or odd."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from sam3_lora.data.doctor import class_balance, image_probe, objects, phrase_lints
from sam3_lora.data.doctor.near_duplicates import Copies
from sam3_lora.data.doctor.report import Report
from sam3_lora.data.doctor.statistics import Gatherer, Histogram, Statistics
from sam3_lora.data.doctor.wordings import ALL_WORDINGS, DEEP_WORDINGS
from sam3_lora.data.findings.findings import Finding, FindingCollector, in_order
from sam3_lora.data.records import Dataset, ImageRecord, Split

__all__ = ["DEEP_WORDINGS", "Histogram", "Report", "Statistics", "examine"]

_CHUNK = 64  # images under way at once
_MAX_THREADS = 8
# Looked for in a few files when the dataset is opened, and in all of them here.
_AGAIN = ("image-unreadable", "size-mismatch", "image-scaled", "bad-segmentation")


def examine(
    dataset: Dataset,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report:
    """Everything that is wrong or odd with a dataset, and what it holds in numbers.

    Every image is read once, in threads and at a reduced size where its format allows it; memory does not grow
    with the size of the images, and by less than 1 KB with each. A file that cannot be read is a finding.

    Args:
        dataset: as opened; its findings are part of the report.
        progress: called now and then with a share in [0, 1] and what is done, from the calling thread.
        cancelled: asked now and then; once it says True, the report is about what was looked at until then.
    """
    total = sum(len(split.images) for split in dataset.splits.values())
    faults = {name: _seeded(name, dataset) for name in dataset.splits}
    copies, numbers = Copies(), Gatherer()
    looked_at = 0
    for split in dataset.splits.values():
        numbers.begin(split)
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        for split, records in _chunks(dataset):
            if cancelled is not None and cancelled():
                break
            if progress is not None:
                progress(looked_at / total, f"Looking at the images of {split.name}")
            _look_at(split, records, threads, faults[split.name], copies, numbers)
            looked_at += len(records)
    if progress is not None:
        progress(1.0, "Comparing the images")
    copies.note(faults)
    whole = FindingCollector(wordings=ALL_WORDINGS, facts=_FACTS.copy())
    statistics = numbers.finish()
    suggestions = phrase_lints.note(dataset.categories, whole)
    if looked_at == total:
        class_balance.note(statistics.objects_per_category, whole)
    return Report(
        dataset=str(dataset.root),
        format=dataset.format,
        findings=_all_findings(dataset, [*faults.values(), whole]),
        statistics=statistics,
        suggestions=suggestions,
        looked_at=looked_at,
        images=total,
    )


_FACTS = {
    "max_pixels": f"{image_probe.MAX_PIXELS // 10**6}",
    "min_iou": f"{objects.MIN_IOU:g}",
    "same_iou": f"{objects.SAME_IOU:g}",
    "model_side": f"{objects.MODEL_SIDE}",
    "mask_side": f"{objects.MASK_SIDE}",
    "queries": f"{objects.QUERIES}",
    "min_pixels": f"{objects.MIN_PIXELS}",
    "min_objects": f"{class_balance.MIN_OBJECTS}",
}


def _seeded(split: str, dataset: Dataset) -> FindingCollector:
    """Faults of a split that go on from what was found when it was opened."""
    probed = sum(not record.missing for record in dataset.splits[split].images)
    faults = FindingCollector(split, {**_FACTS, "probed": f"{probed:,}"}, ALL_WORDINGS)
    for finding in dataset.findings:
        if finding.split == split and finding.kind == "bad-image-size":  # for image_probe.note()
            faults.image_names[finding.kind] = dict.fromkeys(finding.image_names)
        if finding.split == split and finding.kind in _AGAIN:
            faults.counts[finding.kind] = finding.count
            faults.locations[finding.kind] = list(finding.locations)
            faults.image_names[finding.kind] = dict.fromkeys(finding.image_names)
    return faults


def _chunks(dataset: Dataset) -> Iterator[tuple[Split, tuple[ImageRecord, ...]]]:
    for split in dataset.splits.values():
        for start in range(0, len(split.images), _CHUNK):
            yield split, tuple(split.images[start : start + _CHUNK])


def _look_at(
    split: Split,
    records: tuple[ImageRecord, ...],
    threads: ThreadPoolExecutor,
    faults: FindingCollector,
    copies: Copies,
    numbers: Gatherer,
) -> None:
    looks = [None if record.missing else threads.submit(image_probe.look, record.path) for record in records]
    for record in records:  # while the threads read
        numbers.add(split.name, record, objects.note(record, faults))
    for record, pending in zip(records, looks, strict=True):
        if pending is not None:
            seen = pending.result()
            image_probe.note(record, seen, faults)
            copies.add(split.name, record.file_name, str(record.path), seen)


def _all_findings(dataset: Dataset, faults: list[FindingCollector]) -> tuple[Finding, ...]:
    """Those of opening and of examining, worst first; of a kind that both look for, the more complete one."""
    again = {(kind, split) for kind in _AGAIN for split in dataset.splits}
    findings = [finding for finding in dataset.findings if (finding.kind, finding.split) not in again]
    deep = [finding for part in faults for finding in part.findings()]
    rank = {kind: place for place, kind in enumerate(ALL_WORDINGS)}
    return tuple(in_order([*findings, *sorted(deep, key=lambda finding: rank[finding.kind])]))
