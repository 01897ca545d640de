"""Holds a share of the training images out for validation, where a dataset has no split for it.

Copies of a picture stay together, every category keeps most of its images in training, and the seed decides the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from sam3_lora.data.index.cache import cache_file, state_of
from sam3_lora.data.records import Split
from sam3_lora.files import atomic_write, read_file

MIN_IMAGES = 5  # different pictures; with fewer, nothing is held out
_GROUPS_VERSION = 1  # of the files in the cache
_MAX_CACHE_BYTES = 2**30  # of one of them: a few bytes an image
_MAX_THREADS = 8
_HELD_OUT = " (held out)"  # ends the name of what is held out of a split

Progress = Callable[[float, str], None]
Obstacle = Literal["few-images", "few-objects"]


@dataclass(frozen=True)
class HeldOut:
    """The images of a split that are kept out of training to validate on.

    Attributes:
        split: its name.
        annotations: the absolute path of its annotations.
        digest: of its images' names and objects, by which it is recognized in another place.
        share: that was asked for, in [0, 1).
        seed: that decided.
        of: images of the split, those held out included.
        images: the file names; none if there is an obstacle.
        obstacle: why nothing is held out: fewer than MIN_IMAGES different pictures, or no category in two of them.
        alike: most images look so similar that similar ones could not be kept together.
        taken_from: the run whose held-out images these are, because this run continues from its adapter.
        known_from: the run that trained the adapter to continue from on these images, too.
    """

    split: str
    annotations: str
    digest: str
    share: float
    seed: int
    of: int
    images: tuple[str, ...] = ()
    obstacle: Obstacle | None = None
    alike: bool = False
    taken_from: str = ""
    known_from: str = ""

    def is_of(self, split: Split) -> bool:
        """Whether a split (without missing images) is the one that the images are held out of, here or moved."""
        is_same_file = (split.name, annotations_of(split)) == (self.split, self.annotations)
        return is_same_file or digest_of(split) == self.digest

    def divide(self, split: Split) -> tuple[Split, Split]:
        """The images to train on, and those held out; together all of the split."""
        images = set(self.images)
        held_out = np.fromiter((name in images for name in split.images.names), bool, len(split.images))
        train = replace(split, images=split.images.take(~held_out))
        return train, replace(split, name=f"{split.name}{_HELD_OUT}", images=split.images.take(held_out))


def whole_split(name: str) -> str:
    """The name of the split that a split, or what is held out of one, belongs to."""
    return name.removesuffix(_HELD_OUT)


def annotations_of(split: Split) -> str:
    """The absolute path of a split's annotations."""
    return os.path.realpath(split.json_path)


def digest_of(split: Split) -> str:
    """A digest of the names of a split's images and of its boxes."""
    digest = hashlib.blake2b("\0".join(split.images.names).encode("utf-8", "replace"), digest_size=16)
    digest.update(np.ascontiguousarray(split.images.boxes_xywh).tobytes())
    return digest.hexdigest()


def hold_out(split: Split, share: float, seed: int, progress: Progress = lambda share, step: None) -> HeldOut:
    """Chooses the images to hold out.

    The images are read once to find copies; what was found is kept in the user's cache folder.

    Args:
        split: without the images whose file is missing.
        share: of the images, above 0; at least one image is held out.
        seed: the same one gives the same images.
        progress: called with the share of the images that were compared, in [0, 1], and the current step.
    """
    held_out = HeldOut(split.name, annotations_of(split), digest_of(split), share, seed, len(split.images))
    if len(split.images) < MIN_IMAGES:
        return replace(held_out, obstacle="few-images")
    copies, similar = _groups(split, progress)
    if len(np.unique(copies)) < MIN_IMAGES:
        return replace(held_out, obstacle="few-images")
    alike = _are_mostly_alike(similar, share)
    chosen = choose(copies if alike else similar, image_categories(split), share, seed)
    if not chosen.any():
        return replace(held_out, obstacle="few-objects")
    names = tuple(dict.fromkeys(split.images.take(chosen).names))
    return replace(held_out, images=names, alike=alike)


def image_categories(split: Split) -> np.ndarray:
    """(image, category) for each category with an object to learn from in an image, int (K, 2), each once."""
    learned = ~split.images.iscrowd
    pairs = np.stack([split.images.image_index[learned], split.images.category_index[learned]], axis=1)
    found: np.ndarray = np.unique(pairs, axis=0)
    return found


def choose(groups: np.ndarray, categories: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which images to hold out, bool (N,): whole groups, so that each category has about its share.

    Rare categories are served first, because common ones come along with them. A category with too few images for the
    share stays in training; only where that leaves too few, up to half of its images are taken.

    Args:
        groups: of each image, int (N,); images of one group stay together.
        categories: (image, category) pairs, int (K, 2).
        share: of the images.
        seed: of the order in which groups are tried.
    """
    return _Choice(groups, categories, share, seed).chosen()


class _Choice:
    """One choice in progress: the groups, and how many images of each category are held out so far."""

    def __init__(self, groups: np.ndarray, categories: np.ndarray, share: float, seed: int) -> None:
        self._groups, self._share = groups, share
        self._sizes = np.bincount(groups)
        self._with_objects = np.bincount(groups[np.unique(categories[:, 0])], minlength=len(self._sizes))
        self._totals = np.bincount(categories[:, 1])
        self._order = np.random.default_rng(seed).permutation(len(self._sizes))
        rank = np.argsort(self._order)
        # Of each group, its categories and how many of its images have each; of each category, its groups in order.
        pairs, counts = np.unique(np.stack([groups[categories[:, 0]], categories[:, 1]], 1), axis=0, return_counts=True)
        self._of_group = {
            group: (pairs[start:stop, 1], counts[start:stop]) for group, start, stop in _runs(pairs[:, 0])
        }
        by_category = pairs[np.lexsort((rank[pairs[:, 0]], pairs[:, 1]))]
        self._of_category = {
            category: by_category[start:stop, 0].tolist() for category, start, stop in _runs(by_category[:, 1])
        }
        self._taken: set[int] = set()
        self._held = np.zeros_like(self._totals)
        self._num_held = 0  # images with objects
        self._wanted = max(1, round(share * int(self._with_objects.sum())))
        self._most = max(self._wanted, min((self._with_objects[group] for group in self._of_group), default=0))

    def chosen(self) -> np.ndarray:
        nearest = np.minimum(np.floor(self._share * self._totals + 0.5), self._totals - 1).astype(int)
        for category in sorted(self._of_category, key=lambda category: self._totals[category]):
            goal = int(self._share * self._totals[category])
            for group in self._of_category[category] if goal else ():
                if self._held[category] >= goal:
                    break
                self._try(group, nearest)
        for limits in (nearest, self._totals // 2):
            for group in self._order.tolist():
                if self._num_held < self._wanted and group in self._of_group:
                    self._try(group, limits)
        if self._taken:
            self._take_without_objects()
        mask: np.ndarray = np.isin(self._groups, list(self._taken))
        return mask

    def _try(self, group: int, limits: np.ndarray) -> None:
        """Takes a group unless it is taken or too large, or would take too many images of a category."""
        categories, counts = self._of_group[group]
        size = self._with_objects[group]
        fits = self._num_held + size <= self._most and (self._held[categories] + counts <= limits[categories]).all()
        if fits and group not in self._taken:
            self._taken.add(group)
            self._num_held += size
            self._held[categories] += counts

    def _take_without_objects(self) -> None:
        without = [group for group in self._order.tolist() if group not in self._of_group]
        left = int(self._share * self._sizes[without].sum()) if without else 0
        for group in without:
            if self._sizes[group] <= left:
                self._taken.add(group)
                left -= self._sizes[group]


def _runs(values: np.ndarray) -> list[tuple[int, int, int]]:
    """(value, start, stop) of each run of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return list(zip(values[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))


def _are_mostly_alike(groups: np.ndarray, share: float) -> bool:
    """Whether most images are in groups too large to be held out: a fixed camera, or one long video."""
    sizes = np.bincount(groups)
    limit = max(1, round(share * len(groups)), min(int(sizes.min()), len(groups) // MIN_IMAGES))
    return bool(2 * sizes[sizes > limit].sum() > len(groups))


def _groups(split: Split, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """:func:`near_duplicates.groups` of a split's images, from the cache if their files have not changed since."""
    from sam3_lora.data.doctor import image_probe, near_duplicates  # loads SciPy

    paths = [str(path) for path in split.images.paths]
    states = [state_of(path) for path in paths]
    key = repr((_GROUPS_VERSION, list(zip(paths, split.images.names, states, strict=True))))
    file = cache_file(key, "groups")
    if (found := kept_groups(file, len(paths))) is not None:
        return found
    images: list[near_duplicates.ProbedImage] = []
    threads = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
    try:
        probes = threads.map(image_probe.probe, split.images.paths)
        for name, path, probe in zip(split.images.names, split.images.paths, probes, strict=True):
            progress(len(images) / len(paths), "Looking for copies among the images")
            images.append(near_duplicates.ProbedImage(split.name, name, path, probe))
    finally:
        threads.shutdown(cancel_futures=True)  # else a cancelled check would go on to the last image
    copies, similar = near_duplicates.groups(images)
    keep_groups(file, copies, similar)
    return copies, similar


def kept_groups(file: Path, images: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What :func:`keep_groups` wrote, each (images,); None if it is of other images, damaged or not there."""
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
        found = msgspec.msgpack.decode(read_file(file, _MAX_CACHE_BYTES), type=tuple[list[int], list[int]])
        if len(found[0]) == len(found[1]) == images:
            return np.array(found[0]), np.array(found[1])
    return None


def keep_groups(file: Path, copies: np.ndarray, similar: np.ndarray) -> None:
    """Keeps groups for the next time, if the file can be written."""
    with contextlib.suppress(OSError):  # where nothing can be kept, it is done again
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, msgspec.msgpack.encode((copies.tolist(), similar.tolist())))
