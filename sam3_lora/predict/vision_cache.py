"""The vision cache: the output of a frozen vision backbone, computed once per image and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sam3_lora.config import Precision
from sam3_lora.data.content_hashes import ContentHashes
from sam3_lora.data.samples import Batch, SampleDataset
from sam3_lora.data.vision_features import (
    FeatureFiles,
    Flipped,
    SplitFeatures,
    features_folder,
    hashes_file,
    identity_of,
)
from sam3_lora.errors import DataError
from sam3_lora.model import lora
from sam3_lora.model.precision import DTYPES
from sam3_lora.text import plural

if TYPE_CHECKING:
    from transformers import Sam3ViTModel

    from sam3_lora.data.records import ImageRecord
    from sam3_lora.model.detector import Sam3Detector
    from sam3_lora.predict.predictor import Predictor

GB = 10**9
_SAMPLED = 64  # numbers of each weight that its fingerprint is made of
_IMAGES_AT_ONCE = 32  # whose content is looked at between two signs of progress
_log = logging.getLogger(__name__)
Place = tuple[int, int]  # which of the splits, which of its images


@dataclass(frozen=True)
class CachePlan:
    """What is in the cache and what will be: found out before the first image is encoded.

    Attributes:
        images: of all splits.
        kept: those whose features are in the cache, or will be; the others are encoded whenever they are met.
        missing: files that are to be computed, one per image and way of flipping it.
        file_bytes: of one file.
        folder: of the cache.
    """

    images: int
    kept: int
    missing: int
    file_bytes: int
    folder: Path

    @property
    def sentence(self) -> str:
        """As it is logged."""
        images = plural(self.images, "image")
        if not self.kept:
            return (
                f"The vision encoder runs in every step: there is no room in {self.folder} for its output for {images} "
                "(data.vision_cache_gb; 2 GB of the disk are left free)."
            )
        kept = images if self.kept == self.images else f"{self.kept:,} of {images}"
        new = f", {self.missing * self.file_bytes / GB:.2g} GB of it new" if self.missing else ""
        once = f"The vision encoder runs once per image: its output for {kept} is kept in {self.folder}{new}."
        if self.kept == self.images:
            return once
        return f"{once} The others do not fit (data.vision_cache_gb, disk) and are encoded in every step."


@dataclass(frozen=True)
class Progress:
    """How far :meth:`VisionCache.fill` is: images looked at, or files computed once there is a plan."""

    done: int
    total: int
    plan: CachePlan | None = None


@dataclass(frozen=True)
class _Task:
    """An image to encode."""

    place: Place
    flips: tuple[Flipped, ...]


class VisionCache:
    """Keeps what the vision backbone makes of images, and completes batches with it.

    Args:
        detector: the model; its backbone is frozen.
        precision: of its forward passes.
        processor: the base model's Sam3Processor.
        limit_gb: size of the cache, over all models and datasets.
    """

    def __init__(self, detector: Sam3Detector, precision: Precision, processor: Any, limit_gb: float) -> None:
        self._detector = detector
        self.files = files_of(detector, precision, processor, limit_gb)
        self._hashes = ContentHashes(hashes_file())
        self._can_write = True

    def attach(self, samples: SampleDataset) -> None:
        """Lets a split's samples be read from the cache, as far as :meth:`fill` has filled it."""
        samples.features = SplitFeatures(self.files, len(samples))

    def fill(
        self,
        splits: Sequence[SampleDataset],
        places: Sequence[Place] | None = None,
        from_main: Callable[[Callable[[], Any]], Any] = lambda make: make(),
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Progress]:
        """Computes what is missing; in every one of several processes this yields equally often.

        Args:
            splits: with the cache attached, the more important first, in case that not all fit.
            places: only these images; None for all.
            from_main: see :func:`sam3_lora.train.accelerator.from_main`.
            rank: which process this is, from 0.
            world: how many there are.
        """
        if places is None:
            places = [(split, number) for split, samples in enumerate(splits) for number in range(len(samples))]
        for start in range(0, len(places), _IMAGES_AT_ONCE):
            some = places[start : start + _IMAGES_AT_ONCE]
            identities = from_main(partial(self._identities, splits, some))
            for (split, number), identity in zip(some, identities, strict=True):
                _features(splits[split]).identify(number, identity)
            yield Progress(start, len(places))
        self._hashes.save()
        plan, tasks, left_out = from_main(partial(self._plan, splits, places))
        for split, number in left_out:
            _features(splits[split]).identify(number, b"")
        yield Progress(0, len(tasks), plan)
        own = iter(self._encoded(splits, tasks[rank::world]))
        for start in range(0, len(tasks), world):
            next(own, None)
            yield Progress(min(start + world, len(tasks)), len(tasks), plan)

    def complete(self, batch: Batch) -> Batch:
        """The batch, on its device, with the backbone's output of all images; pixels are encoded, and kept where the
        cache has lost them."""
        if batch.pixel_values is None or not batch.features_at:
            return batch
        rows = batch.unencoded or tuple(range(len(batch.images)))
        encoded = self.encode(batch.pixel_values)
        for row, features in zip(rows, encoded, strict=True):
            path = batch.features_at[row]
            if path is not None and self.files.room(self.files.file_bytes, evict=False) == self.files.file_bytes:
                self._save(path, features)
        backbone = encoded
        if batch.backbone is not None:
            backbone = batch.backbone.index_copy(0, torch.tensor(rows, device=encoded.device), encoded)
        return replace(batch, pixel_values=None, backbone=backbone, unencoded=())

    @torch.no_grad()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """The backbone's output (B, H*W, C) as it is kept. pixel_values: (B, 3, S, S)."""
        device, dtype = next(self._detector.parameters()).device, self.files.dtype
        is_rounded = dtype != torch.float32
        # Also where the caller computes in another precision: the files are of this one.
        with torch.autocast(device.type, dtype=dtype if is_rounded else None, enabled=is_rounded):
            return self._detector.encode_backbone(pixel_values.to(device)).to(dtype)

    def _identities(self, splits: Sequence[SampleDataset], places: Sequence[Place]) -> list[bytes]:
        """What identifies each image; b"" where the file cannot be read."""
        found = []
        for split, number in places:
            try:
                found.append(identity_of(splits[split].record(number), self._hashes))
            except OSError:  # loading the image says more
                found.append(b"")
        return found

    def _plan(
        self, splits: Sequence[SampleDataset], places: Sequence[Place]
    ) -> tuple[CachePlan, list[_Task], list[Place]]:
        """The plan, the images to encode, and those that do not fit."""
        paths = {
            place: {flipped: _features(splits[place[0]]).path(place[1], flipped) for flipped in splits[place[0]].flips}
            for place in places
        }
        each, limit = self.files.file_bytes, self.files.limit_bytes
        seen: set[Path | None] = {None}  # copies of an image have the same files
        kept: set[Path] = set()
        lost: set[Path | None] = set()
        wanted: list[_Task] = []
        for place, files in paths.items():
            new = {flipped: path for flipped, path in files.items() if path and path not in seen}
            seen.update(new.values())
            if (len(kept) + len(new)) * each > limit:
                lost.update(new.values())
                continue
            kept.update(new.values())
            if flips := tuple(flipped for flipped, path in new.items() if not self.files.is_intact(path)):
                wanted.append(_Task(place, flips))
        room = self.files.room(sum(len(task.flips) for task in wanted) * each, keep=kept)
        tasks: list[_Task] = []
        for task in wanted:
            if (room := room - len(task.flips) * each) < 0:
                break
            tasks.append(task)
        lost |= {paths[task.place][flipped] for task in wanted[len(tasks) :] for flipped in task.flips}
        left_out = [place for place, files in paths.items() if lost & {*files.values()}]
        nameless = sum(None in files.values() for files in paths.values())
        count = sum(len(task.flips) for task in tasks)
        return (
            CachePlan(len(paths), len(paths) - nameless - len(left_out), count, each, self.files.folder),
            tasks,
            left_out,
        )

    def _encoded(self, splits: Sequence[SampleDataset], tasks: Sequence[_Task]) -> Iterator[None]:
        """Encodes and keeps images one after the other; threads load the next ones meanwhile."""
        workers = max(1, min(4, (os.cpu_count() or 2) - 1))
        coming = iter(tasks)
        with ThreadPoolExecutor(max_workers=workers) as pool:
            try:
                loading = deque((task, self._load(pool, splits, task)) for task in islice(coming, 2 * workers))
                while loading:
                    task, pixels = loading.popleft()
                    loading.extend((task, self._load(pool, splits, task)) for task in islice(coming, 1))
                    with suppress(DataError):  # an image that cannot be loaded; a step that meets it says so
                        self._encode_task(_features(splits[task.place[0]]), task, pixels.result())
                    yield
            finally:
                pool.shutdown(cancel_futures=True)

    def _encode_task(self, features: SplitFeatures, task: _Task, pixels: Tensor) -> None:
        for flipped in task.flips:
            if (path := features.path(task.place[1], flipped)) is not None:
                # One by one: one image fills a GPU, and its mirror image needs no further memory.
                self._save(path, self.encode(pixels.flip([axis - 2 for axis in flipped])[None])[0])

    @staticmethod
    def _load(pool: ThreadPoolExecutor, splits: Sequence[SampleDataset], task: _Task) -> Any:
        split, number = task.place
        return pool.submit(splits[split].pixel_values, number)

    def _save(self, path: Path, features: Tensor) -> None:
        """Keeps features; a disk that does not take them is told once, and left alone from then on."""
        if not self._can_write:
            return
        try:
            self.files.save(path, features)
        except OSError as error:
            self._can_write = False
            _log.warning("No more vision features are kept in %s: %s", self.files.folder, error)


class KeptFeatures:
    """What training has kept of the images of a dataset, to be read only.

    Args:
        predictor: nothing is read where its adapter changes vision.
    """

    def __init__(self, predictor: Predictor) -> None:
        # Where nothing is kept, no image has to be hashed and no weight looked at.
        has_any = can_cache(predictor.detector) and any(features_folder().glob("*.safetensors"))
        detector, precision, processor = predictor.detector, predictor.precision, predictor.processor
        self._files = files_of(detector, precision, processor, limit_gb=0) if has_any else None
        self._hashes = ContentHashes(hashes_file())

    def of(self, image: ImageRecord) -> Tensor | None:
        """The backbone's output (1, H*W, C) for an image that is not flipped; None if it is not kept."""
        if self._files is None:
            return None
        try:
            identity = identity_of(image, self._hashes)
        except OSError:  # loading the image says more
            return None
        features = self._files.load(self._files.path(identity, ()))
        return None if features is None else features[None]

    def close(self) -> None:
        """Remembers the hashes of the images for the next time."""
        self._hashes.save()


def can_cache(detector: Sam3Detector) -> bool:
    """Whether the backbone gives the same output for an image each time: no adapter, no gradient, no dropout."""
    backbone = detector.base.vision_encoder.backbone
    is_adapted = "vision_encoder" in lora.adapted_components(detector.base)
    is_trained = any(parameter.requires_grad for parameter in backbone.parameters())
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in backbone.modules())
    return not (is_adapted or is_trained or drops or backbone.config.attention_dropout)


def files_of(detector: Sam3Detector, precision: Precision, processor: Any, limit_gb: float) -> FeatureFiles:
    """The files of a model's features; the arguments are those of :class:`VisionCache`."""
    backbone, size = detector.base.vision_encoder.backbone, processor.image_processor.size["height"]
    # The neck's convolutions round their input to this type under autocast, so that kept features change no number.
    grid, dtype = size // backbone.config.patch_size, DTYPES[precision]
    return FeatureFiles(
        source=f"{fingerprint(backbone, dtype)} {precision} {_digest_of(processor.image_processor.to_dict())}",
        shape=(grid * grid, backbone.config.hidden_size),
        dtype=dtype,
        limit_bytes=int(limit_gb * GB),
        folder=features_folder(),
    )


def fingerprint(backbone: Sam3ViTModel, dtype: torch.dtype) -> str:
    """A digest of the backbone's weights, architecture and code: of some numbers of every weight.

    Args:
        backbone: on any device.
        dtype: that numbers are rounded to first, so that weights kept in bf16 and in float32 are the same in bf16.
    """
    import transformers

    digest = hashlib.blake2b(digest_size=16)
    config = {name: value for name, value in backbone.config.to_dict().items() if name not in _NOT_ARCHITECTURE}
    digest.update(_digest_of([transformers.__version__, config]).encode())
    sampled = []
    for name, weight in backbone.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        flat = weight.detach().reshape(-1)
        step = len(flat) // _SAMPLED | 1  # odd: other columns in each row
        sampled.append(flat[::step].to(dtype).float())
    digest.update(torch.cat(sampled).cpu().numpy().tobytes())  # one transfer from the device
    return digest.hexdigest()


_NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"}


def _digest_of(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _features(samples: SampleDataset) -> SplitFeatures:
    assert samples.features is not None, "the cache has not been attached"
    return samples.features
