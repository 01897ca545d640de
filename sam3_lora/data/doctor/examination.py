"""Examines a dataset: reads every image once, checks every object, and reports the problems."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from sam3_lora.data.doctor import class_balance, image_probe, near_duplicates, objects, phrase_lints, statistics
from sam3_lora.data.doctor.report import Report
from sam3_lora.data.findings.findings import FindingCollector, by_severity
from sam3_lora.data.records import Dataset, ImageRecord, Split

_CHUNK = 64  # images in progress at once
_MAX_THREADS = 8
# Looked for in a few files when the dataset is opened, and in all of them here.
_EXAMINED_AGAIN = (*image_probe.SIZE_KINDS, "bad-segmentation")


def examine(
    dataset: Dataset,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report:
    """Every problem of a dataset, and its statistics.

    Every image is read once, in threads and at a reduced size where its format allows it; memory does not grow
    with the size of the images, and by less than 1 KB with each. A file that cannot be read is a finding.

    Args:
        dataset: as opened; its findings are part of the report.
        progress: called now and then with a share in [0, 1] and the current step, from the calling thread.
        cancelled: called now and then; once it returns True, the report covers what was examined until then.
    """
    total = sum(len(split.images) for split in dataset.splits.values())
    findings = {name: _collector(name, dataset) for name in dataset.splits}
    readable: list[near_duplicates.ProbedImage] = []
    mask_areas: list[np.ndarray] = []
    examined = 0
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as threads:
        for split, records in _chunks(dataset):
            if cancelled is not None and cancelled():
                break
            if progress is not None:
                progress(examined / total, f"Examining the images of {split.name}")
            probes = [None if record.missing else threads.submit(image_probe.probe, record.path) for record in records]
            # While the threads read. As a float None is NaN.
            mask_areas += [np.array(objects.check(record, findings[split.name]), np.float64) for record in records]
            for record, pending in zip(records, probes, strict=True):
                if pending is not None:
                    probe = pending.result()
                    image_probe.check(record, probe, findings[split.name])
                    if probe.digest is not None and probe.size is not None:
                        image = near_duplicates.ProbedImage(split.name, record.file_name, record.path, probe)
                        readable.append(image)
            examined += len(records)
    if progress is not None:
        progress(1.0, "Comparing the images")
    for name, split in dataset.splits.items():
        for kind in image_probe.SIZE_KINDS:
            findings[name].describe(kind, probed=int((~split.images.missing).sum()))
    near_duplicates.find(readable, findings)
    numbers = statistics.count(list(_first_images(dataset, examined)), mask_areas)
    whole = FindingCollector()
    suggestions = phrase_lints.check(dataset.categories, whole, partial(_images_of, dataset))
    if examined == total:
        class_balance.check(numbers.objects_per_category, whole)
    again = {(kind, split) for kind in _EXAMINED_AGAIN for split in dataset.splits}
    opening = [finding for finding in dataset.findings if (finding.kind, finding.split) not in again]
    examination = [finding for part in (*findings.values(), whole) for finding in part.collected()]
    return Report(
        dataset=str(dataset.root),
        format=dataset.format,
        findings=tuple(by_severity([*opening, *examination])),
        statistics=numbers,
        suggestions=suggestions,
        looked_at=examined,
        images=total,
    )


def _collector(split: str, dataset: Dataset) -> FindingCollector:
    """The collector of a split, which goes on from what was found when the dataset was opened."""
    findings = FindingCollector(split)
    for finding in dataset.findings:
        if finding.split == split and finding.kind in _EXAMINED_AGAIN:
            findings.resume(finding)
        elif finding.split == split and finding.kind == "bad-image-size":  # for image_probe.check()
            findings.mention(finding.kind, finding.image_names)
    return findings


def _images_of(dataset: Dataset, category: str) -> list[str]:
    return [name for split in dataset.splits.values() for name in split.images.with_categories({category}).names]


def _first_images(dataset: Dataset, count: int) -> Iterator[Split]:
    """The splits with the first images only, `count` in all."""
    for split in dataset.splits.values():
        yield replace(split, images=split.images[:count])
        count = max(0, count - len(split.images))


def _chunks(dataset: Dataset) -> Iterator[tuple[Split, Sequence[ImageRecord]]]:
    for split in dataset.splits.values():
        for start in range(0, len(split.images), _CHUNK):
            yield split, tuple(split.images[start : start + _CHUNK])
