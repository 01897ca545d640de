"""Finds duplicate images, byte for byte or nearly so, within a split and across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sam3_lora.data.doctor.image_probe import THUMB, ImageProbe
from sam3_lora.data.findings.findings import FindingCollector, Severity
from sam3_lora.text import short_repr

MAX_BITS = 16  # of 128 that may differ between similar images
MIN_CORRELATION = 0.95  # of their thumbnails
VERSION_CORRELATION = 0.6  # of those of Roboflow's augmented versions, which are also cropped, darkened and blurred
MAX_NEIGHBOURS = 64  # compared with one image per band, which bounds the time on thousands of similar images


@dataclass(frozen=True, slots=True)
class ProbedImage:
    """An image whose file could be read; less than 1 KB each."""

    split: str
    name: str
    path: Path
    probe: ImageProbe


def find(images: Sequence[ProbedImage], findings: dict[str, FindingCollector]) -> None:
    """Adds every duplicate to the findings of the split in which it is met second.

    Args:
        images: all that could be read, in the dataset's order.
        findings: by split.
    """
    firsts = _find_identical(images, findings)
    reported = _find_versions(images, findings)
    for early, late in ((firsts[first], firsts[second]) for first, second in _similar(firsts)):
        kind = "similar-images" if early.split == late.split else "leaked-similar"
        if early.probe.digest != late.probe.digest and (kind, late.split, late.name) not in reported:
            reported.add((kind, late.split, late.name))
            _add(kind, late, early, findings)


def groups(images: Sequence[ProbedImage]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers images so that those of one number belong together.

    Args:
        images: also those that could not be read, which are alone.

    Returns:
        Two arrays, int (N,): by copies alone (one file, the same bytes, Roboflow's augmented versions), and by copies
        and similar images (frames of a video, a burst of photographs, one camera).
    """
    first: dict[object, int] = {}
    copies: list[tuple[int, int]] = []
    versions: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        copies.append((first.setdefault(image.path, number), number))
        if image.probe.digest is not None:
            copies.append((first.setdefault(image.probe.digest, number), number))
        origin, mark, _ = image.path.name.rpartition(".rf.")
        if mark:
            others = versions.setdefault(origin, [])  # one of each photograph that has this name
            same = (other for other in others if _are_versions(images[other].probe.thumb, image.probe.thumb))
            if (other := next(same, None)) is not None:
                copies.append((other, number))
            elif len(others) < MAX_NEIGHBOURS:
                others.append(number)
    return _connected(copies, len(images)), _connected([*copies, *_similar(images)], len(images))


def _connected(pairs: list[tuple[int, int]], count: int) -> np.ndarray:
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    numbers: np.ndarray = connected_components(graph, directed=False)[1]
    return numbers


def _similar(images: Sequence[ProbedImage]) -> list[tuple[int, int]]:
    """Pairs of images that look nearly the same, by their places."""
    probes = [(place, image.probe.gradient_hash, image.probe.thumb) for place, image in enumerate(images)]
    comparable = [(place, bits, thumb) for place, bits, thumb in probes if bits is not None and thumb is not None]
    if len(comparable) < 2:
        return []
    places, hashes, thumbs = zip(*comparable, strict=True)
    pairs = similar_pairs(np.stack(hashes), np.stack(thumbs)).tolist()
    return [(places[one], places[other]) for one, other in pairs]


def _find_identical(images: Sequence[ProbedImage], findings: dict[str, FindingCollector]) -> list[ProbedImage]:
    """Finds the duplicates byte for byte; returns the first image of each content in each split."""
    first_in_split: dict[tuple[bytes | None, str], ProbedImage] = {}
    first_of_all: dict[bytes | None, ProbedImage] = {}
    for image in images:
        inside = first_in_split.setdefault((image.probe.digest, image.split), image)
        original = first_of_all.setdefault(image.probe.digest, image)
        if inside.path != image.path:  # else one file, named by two entries
            _add("identical-images", image, inside, findings)
        if original.split != image.split:
            severity: Severity = "error" if original.split.lower() == "train" else "warning"
            _add("leaked-images", image, original, findings, severity)
    return list(first_in_split.values())


def _find_versions(images: Sequence[ProbedImage], findings: dict[str, FindingCollector]) -> set[tuple[str, str, str]]:
    """Finds Roboflow's augmented versions of one photograph in two splits, also rotated or mirrored ones.

    The name alone is not enough: photographs of many sources are called image_0.
    """
    reported: set[tuple[str, str, str]] = set()
    first: dict[str, ProbedImage] = {}
    for image in images:
        origin, mark, _ = image.path.name.rpartition(".rf.")
        early = first.setdefault(origin, image) if mark else image
        is_other = early.split != image.split and early.probe.digest != image.probe.digest
        if is_other and _are_versions(early.probe.thumb, image.probe.thumb):
            reported.add(("leaked-similar", image.split, image.name))
            _add("leaked-similar", image, early, findings)
    return reported


def _add(
    kind: str,
    late: ProbedImage,
    early: ProbedImage,
    findings: dict[str, FindingCollector],
    severity: Severity | None = None,
) -> None:
    inside = early.split == late.split
    if inside:
        findings[late.split].mention(kind, [early.name])
    place = "" if inside else f" in '{early.split}'"
    detail = f"like {short_repr(early.name)}{place}"
    findings[late.split].add(kind, late.name, detail=detail, severity=severity)


def _are_versions(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether one thumbnail is about the other, turned or mirrored or not; True where there is nothing to compare."""
    if one is None or other is None or not one.std() or not other.std():
        return True
    turned = (np.rot90(side, turns) for side in (other, other.T) for turns in range(4))
    return any(np.corrcoef(one.ravel(), version.ravel())[0, 1] >= VERSION_CORRELATION for version in turned)


def similar_pairs(bits: np.ndarray, thumbs: np.ndarray) -> np.ndarray:
    """Pairs of images that look nearly the same, without comparing each with each.

    Images that agree in one of eight bands of 16 bits are candidates (locality-sensitive hashing); sorted by their
    bands they are neighbors. So every pair with at most 7 different bits is found, and most with up to MAX_BITS. The
    thumbnails of a pair must correlate, too.

    Args:
        bits: gradient hashes, uint8 (N, 16).
        thumbs: uint8 (N, THUMB, THUMB), gray.

    Returns:
        int64 (K, 2), each pair once, the smaller index first. Pairs among more than MAX_NEIGHBOURS images that look
        alike may be missing, but each of these has others.
    """
    flat = thumbs.reshape(len(thumbs), THUMB * THUMB).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    bands = np.ascontiguousarray(bits).view(np.uint16)  # N, 8
    wide = np.ascontiguousarray(bits).view(np.uint64)  # N, 2
    found = []
    for band in range(bands.shape[1]):
        order = np.lexsort((wide[:, 1], wide[:, 0], bands[:, band]))
        keys = bands[order, band]
        for step in range(1, min(MAX_NEIGHBOURS, len(order) - 1) + 1):
            at = np.flatnonzero(keys[step:] == keys[:-step])
            if not len(at):
                break
            a, b = order[at], order[at + step]
            near = np.bitwise_count(wide[a] ^ wide[b]).sum(axis=1) <= MAX_BITS
            a, b = a[near], b[near]
            alike = np.einsum("ij,ij->i", flat[a], flat[b]) >= MIN_CORRELATION
            found.append(np.stack([a[alike], b[alike]], axis=1))
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    return np.unique(np.sort(pairs, axis=1), axis=0)
