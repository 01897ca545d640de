"""Finds images that stand in a dataset twice, the same to the last byte or nearly so, and in which splits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sam3_lora.data.doctor.image_probe import THUMB, ImageProbe
from sam3_lora.data.findings.findings import FindingCollector, shown

MAX_BITS = 16  # of 128 that may differ between similar pictures
MIN_CORRELATION = 0.95  # of their thumbnails
VERSION_CORRELATION = 0.6  # of those of Roboflow's versions, which are cut, darkened and blurred, too
MAX_NEIGHBOURS = 64  # compared with one picture per band, which bounds the time on thousands of like pictures


@dataclass
class Copies:
    """What is known of every image that was looked into; less than 1 KB each."""

    splits: list[str] = field(default_factory=list)  # per image, in the dataset's order
    names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    differences: list[np.ndarray | None] = field(default_factory=list)
    thumbs: list[np.ndarray | None] = field(default_factory=list)

    def add(self, split: str, name: str, path: str, seen: ImageProbe) -> None:
        """Takes an image in, if its file could be read."""
        if seen.digest is None or seen.size is None:
            return
        self.splits.append(split)
        self.names.append(name)
        self.paths.append(path)
        self.digests.append(seen.digest)
        self.differences.append(seen.differences)
        self.thumbs.append(seen.thumb)

    def note(self, faults: dict[str, FindingCollector]) -> None:
        """Writes all copies into the faults of the split in which they are met later."""
        firsts = self._note_identical(faults)
        told = self._note_versions(faults)
        nodes = np.array([node for node in firsts if self.differences[node] is not None], dtype=np.int64)
        if len(nodes) < 2:
            return
        bits = np.stack([self.differences[node] for node in nodes])
        thumbs = np.stack([self.thumbs[node] for node in nodes])
        self._note_similar(nodes[similar_pairs(bits, thumbs)], faults, told)

    def _note_identical(self, faults: dict[str, FindingCollector]) -> list[int]:
        """Notes the copies to the last byte; returns the first image of each content in each split."""
        first_in_split: dict[tuple[bytes, str], int] = {}
        first_of_all: dict[bytes, int] = {}
        for index, (digest, split) in enumerate(zip(self.digests, self.splits, strict=True)):
            inside = first_in_split.setdefault((digest, split), index)
            original = first_of_all.setdefault(digest, index)
            if inside != index and self.paths[inside] != self.paths[index]:  # else one file, named by two entries
                self._note("identical-images", index, inside, faults)
            if self.splits[original] != split:
                self._note("leaked-images", index, original, faults)
                if self.splits[original].lower() != "train":
                    faults[split].severities.setdefault("leaked-images", "warning")
                else:
                    faults[split].severities["leaked-images"] = "error"
        return list(first_in_split.values())

    def _note_versions(self, faults: dict[str, FindingCollector]) -> set[tuple[str, int]]:
        """Notes Roboflow's versions of one photograph in two splits, turned or mirrored ones, too.

        The name alone is not enough: photographs of many sources are called image_0.
        """
        told: set[tuple[str, int]] = set()
        first: dict[str, int] = {}
        for index, name in enumerate(self.names):
            origin, mark, _ = name.rpartition(".rf.")
            if not mark:
                continue
            early = first.setdefault(origin, index)
            if self.splits[early] == self.splits[index] or self.digests[early] == self.digests[index]:
                continue
            if _are_versions(self.thumbs[early], self.thumbs[index]):
                told.add(("leaked-similar", index))
                self._note("leaked-similar", index, early, faults)
        return told

    def _note_similar(self, pairs: np.ndarray, faults: dict[str, FindingCollector], told: set[tuple[str, int]]) -> None:
        for early, late in np.sort(pairs, axis=1).tolist():
            if self.digests[early] == self.digests[late]:
                continue
            kind = "similar-images" if self.splits[early] == self.splits[late] else "leaked-similar"
            if (kind, late) not in told:
                told.add((kind, late))
                self._note(kind, late, early, faults)

    def _note(self, kind: str, late: int, early: int, faults: dict[str, FindingCollector]) -> None:
        split = self.splits[late]
        inside = self.splits[early] == split
        if inside:
            faults[split].mention(kind, self.names[early])
        place = "" if inside else f" in '{self.splits[early]}'"
        faults[split].add(kind, self.names[late], detail=f"like {shown(self.names[early])}{place}")


def _are_versions(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether one thumbnail is about the other, turned or mirrored or not; True where there is nothing to compare."""
    if one is None or other is None or not one.std() or not other.std():
        return True
    turned = (np.rot90(side, turns) for side in (other, other.T) for turns in range(4))
    return any(np.corrcoef(one.ravel(), version.ravel())[0, 1] >= VERSION_CORRELATION for version in turned)


def similar_pairs(bits: np.ndarray, thumbs: np.ndarray) -> np.ndarray:
    """Pairs of pictures that look nearly the same, without comparing each with each.

    Pictures that agree in one of eight bands of 16 bits are candidates; sorted by their bands they stand side by
    side. So every pair with at most 7 different bits is found, and most with up to MAX_BITS. The thumbnails of
    a pair must correlate, too.

    Args:
        bits: uint8 (N, 16).
        thumbs: uint8 (N, THUMB, THUMB) grey.

    Returns:
        int64 (K, 2), each pair once, the smaller index first. Pairs amid more than MAX_NEIGHBOURS pictures of
        one look may be missing, but each of these has others.
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
