"""Turns images into training samples: pixels, phrases, and the ground truth of each phrase as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from sam3_lora.config import AugmentationConfig, Negatives
from sam3_lora.data.augmentation.exemplars import pack_boxes, with_exemplars
from sam3_lora.data.augmentation.flips import flipped_targets
from sam3_lora.data.images import load_image
from sam3_lora.data.prompts import MAX_TOKENS, Prompt, phrases_for
from sam3_lora.data.records import ImageRecord
from sam3_lora.data.targets import pack_targets, targets_of
from sam3_lora.data.vision_features import Flipped, SplitFeatures, stack_features
from sam3_lora.errors import DataError
from sam3_lora.structures import OnDevice, SoftTargets, Targets

if TYPE_CHECKING:
    from sam3_lora.data.augmentation.pictures import Change

MAX_REPLACEMENTS = 16  # images tried for one that cannot be loaded: if none can, most of the dataset cannot


@dataclass(frozen=True)
class LeftOut:
    """An image that cannot be loaded: its file is damaged, was replaced or is gone, or nobody may read it any more."""

    file_name: str
    error: DataError


@dataclass(frozen=True)
class NothingLoaded:
    """In place of a batch of which no image can be loaded."""

    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Sample:
    """One image with its phrases: positives first, then negatives.

    Attributes:
        pixel_values: float32 (3, S, S) in [-1, 1], scaled to the model's input size without keeping the proportions;
            None with `backbone`.
        phrases: P of them.
        targets: counts has one entry per phrase, masks are bool (N, S, S).
        image: where they come from.
        flipped: the axes of (H, W) along which pixels and targets are flipped.
        backbone: (H*W, C), the vision backbone's output for the flipped pixels, where it is kept on disk.
        features_at: the file that it is in, or should be; None if it is not kept.
        left_out: images that cannot be loaded, in whose place this one is.
        change: what else augmentation has done to the image.
        boxes: exemplar boxes (P, K, 4) cxcywh in [0, 1], None if no phrase has any.
        box_labels: theirs, see :meth:`sam3_lora.model.detector.Sam3Detector.detect`.
    """

    pixel_values: Tensor | None
    phrases: tuple[str, ...]
    targets: Targets
    image: ImageRecord
    flipped: Flipped = ()
    backbone: Tensor | None = None
    features_at: Path | None = None
    left_out: tuple[LeftOut, ...] = ()
    change: Change | None = None
    boxes: Tensor | None = None
    box_labels: Tensor | None = None


@dataclass(frozen=True)
class Batch(OnDevice):
    """Several samples as one, their phrases packed in the order of the images.

    Attributes:
        pixel_values: float32 (B, 3, S, S); None with `backbone`.
        image_index: int64 (P,), the image of each phrase; on the host wherever the rest is, as `Targets.counts`.
        phrases: P of them.
        input_ids, attention_mask: int64 (P, T), on the host, too.
        targets: packed over all P phrases.
        images: B records.
        boxes: exemplar boxes (P, K, 4), those of samples with fewer padded; None if no sample has any.
        box_labels: int64 (P, K).
        backbone: (B, H*W, C), the vision backbone's output, in place of pixel_values where it is kept on disk.
        unencoded: the rows of `backbone` that are not on disk and still zero: their pixels are in pixel_values, here
            (len(unencoded), 3, S, S). They have to be filled in before :attr:`inputs` are used.
        features_at: the file of each image's backbone output, see :class:`Sample`; empty if none is kept.
        left_out: images that cannot be loaded.
        soft: in place of the targets, what the base model predicts for the phrases, where they are replayed.
    """

    pixel_values: Tensor | None
    image_index: Tensor
    phrases: tuple[str, ...]
    input_ids: Tensor
    attention_mask: Tensor
    targets: Targets
    images: tuple[ImageRecord, ...]
    boxes: Tensor | None = None
    box_labels: Tensor | None = None
    backbone: Tensor | None = None
    unencoded: tuple[int, ...] = ()
    features_at: tuple[Path | None, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    soft: SoftTargets | None = None

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """The arguments of :meth:`sam3_lora.model.detector.Sam3Detector.forward`."""
        assert not self.unencoded, f"backbone rows {self.unencoded} have not been computed"
        asked = (self.input_ids, self.attention_mask, self.image_index)
        return self.pixel_values, *asked, self.backbone, self.boxes, self.box_labels

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        # What the host looks at: phrases are told by their tokens.
        on_host = ("image_index", "input_ids", "attention_mask")
        return replace(super()._changed(change), **{name: getattr(self, name) for name in on_host})


class SampleDataset(torch.utils.data.Dataset["Sample | LeftOut | DataError"]):
    """Images as samples.

    Args:
        images: of a split, with their annotations.
        processor: transformers' Sam3Processor of the base model.
        categories: of the whole dataset: the absent ones make the hardest negatives.
        negatives: negative phrases of each image. One without objects gets at least one, since nothing is learned from
            a sample without any phrase.
        seed: with the epoch and the index it determines the negatives, in whichever process the sample is loaded.
        phrases: the user's own words by category, see :func:`sam3_lora.data.prompts.phrase_of`.
        augmentation: how samples are changed, other each time; determined as the negatives are. None: not at all.
        unreadable: what becomes of an image that cannot be loaded: an error; another image in its place, drawn as the
            negatives are, so that a resumed run has the same one; or it is left out.

    Attributes:
        features: where the vision backbone's output is kept: images that it has are not decoded. None: nowhere.
        flips: all ways in which a sample may be flipped.
    """

    def __init__(
        self,
        images: Sequence[ImageRecord],
        processor: Any,
        categories: Iterable[str],
        negatives: Negatives,
        seed: int,
        phrases: Mapping[str, str] | None = None,
        augmentation: AugmentationConfig | None = None,
        unreadable: Literal["error", "replace", "leave-out"] = "error",
    ) -> None:
        self._images = images
        self._image_processor = processor.image_processor
        self._categories = tuple(categories)
        self._negatives = negatives
        self._seed = seed
        self._phrases = dict(phrases or {})
        self._augmentation = augmentation or AugmentationConfig(flip="none")
        self._flippable = {"none": (), "horizontal": (1,), "both": (0, 1)}[self._augmentation.flip]
        self._unreadable = unreadable
        self.features: SplitFeatures | None = None
        self.flips: tuple[Flipped, ...] = tuple(
            axes for count in range(len(self._flippable) + 1) for axes in combinations(self._flippable, count)
        )
        # In shared memory, so that workers that outlive an epoch see the new one.
        self._epoch: Tensor = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Draws other negatives from now on."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample | LeftOut | DataError:
        """Loads one sample; LeftOut where images that cannot be loaded are left out.

        Raises:
            DataError: the image cannot be loaded, nor any of those tried in its place. In a loader's worker process
                the error is returned instead, because torch would turn it into a traceback on its way; it is raised
                later.
        """
        try:
            return self._load(index, self.features)
        except DataError as caught:
            error = caught
        first = LeftOut(self._images[index].file_name, error)
        if self._unreadable == "leave-out":
            return first
        if self._unreadable == "replace":
            if (replacement := self._replacement(index, first)) is not None:
                return replacement
            error = DataError(
                f"{error.message}; nor can any of {min(len(self), MAX_REPLACEMENTS)} others that were tried instead",
                "Make the dataset's folder readable again, then resume the run",
            )
        if torch.utils.data.get_worker_info() is None:
            raise error
        return error

    def _replacement(self, index: int, first: LeftOut) -> Sample | None:
        """The first image that can be loaded of a few drawn for `index`; None if none of them can."""
        left_out = [first]
        order = np.random.default_rng((self._seed, int(self._epoch), index, 1)).permutation(len(self))
        for other in order[:MAX_REPLACEMENTS].tolist():
            try:
                return replace(self._load(other, self.features), left_out=tuple(left_out))
            except DataError as error:
                left_out.append(LeftOut(self._images[other].file_name, error))
        return None

    def record(self, index: int) -> ImageRecord:
        """The image of a sample."""
        return self._images[index]

    def pixel_values(self, index: int) -> Tensor:
        """The pixels of a sample that is not flipped; see :class:`Sample`. Raises DataError."""
        return to_pixel_values(load_image(self._images[index]), self._image_processor)

    def decoded(self, index: int) -> Sample:
        """A sample with its pixels, whether features are kept or not. Raises DataError."""
        return self._load(index, None)

    def replayed(self, index: int, phrases: Sequence[str]) -> Sample:
        """An unchanged image with other phrases than its own, and nothing known about them. Raises DataError."""
        record = self._images[index]
        pixel_values, backbone, path = self._input(index, (), self.features)
        targets = targets_of(record, [Prompt(phrase, ()) for phrase in phrases], input_size(self._image_processor))
        return Sample(pixel_values, tuple(phrases), targets, record, (), backbone, path)

    def _input(
        self, index: int, flipped: Flipped, features: SplitFeatures | None
    ) -> tuple[Tensor | None, Tensor | None, Path | None]:
        """Pixels, not flipped yet, or the backbone's output where it is kept; and the file that it is kept in."""
        path = None if features is None else features.path(index, flipped)
        backbone = None if features is None or path is None else features.files.load(path)
        return (self.pixel_values(index) if backbone is None else None), backbone, path

    def _load(self, index: int, features: SplitFeatures | None) -> Sample:
        record, changes = self._images[index], self._augmentation
        assert features is None or not changes.changes_pixels, "the features are of unchanged images"
        rng = np.random.default_rng((self._seed, int(self._epoch), index))
        asked = sample_prompts(record, self._categories, self._negatives, rng, self._phrases)
        flipped = tuple(axis for axis in self._flippable if rng.random() < 0.5)
        if changes.changes_pixels:
            sample = self._augmented(index, asked)
        else:
            pixel_values, backbone, path = self._input(index, flipped, features)
            targets = targets_of(record, asked, input_size(self._image_processor))
            phrases = tuple(one.phrase for one in asked)
            sample = Sample(pixel_values, phrases, targets, record, backbone=backbone, features_at=path)
        return self._with_exemplars(_flipped(sample, flipped), index)

    def _augmented(self, index: int, asked: Sequence[Prompt]) -> Sample:
        """The sample scaled, cropped, rotated and recolored."""
        from sam3_lora.data.augmentation.pictures import augment  # torchvision takes a second to import

        record = self._images[index]
        rng = np.random.default_rng((self._seed, int(self._epoch), index, 2))
        found = augment(load_image(record), record, asked, self._image_processor, self._augmentation, rng)
        phrases = tuple(one.phrase for one in found.asked)
        pixel_values = to_pixel_values(found.image, self._image_processor)
        return Sample(pixel_values, phrases, found.targets, record, change=found.change)

    def _with_exemplars(self, sample: Sample, index: int) -> Sample:
        added, dropped = self._augmentation.boxes_added, self._augmentation.word_dropped
        if not added + dropped:
            return sample
        rng = np.random.default_rng((self._seed, int(self._epoch), index, 3))
        found = with_exemplars(sample.phrases, sample.targets, added, dropped, rng)
        if found is None:
            return sample
        return replace(sample, phrases=found.phrases, boxes=found.boxes, box_labels=found.labels)


def sample_prompts(
    record: ImageRecord,
    categories: Iterable[str],
    negatives: Negatives,
    rng: np.random.Generator,
    phrases: Mapping[str, str],
) -> list[Prompt]:
    """What is asked of an image: positives first, then negatives, at least one phrase.

    Args:
        record: the image.
        categories: see :class:`SampleDataset`.
        negatives: see there.
        rng: draws the negatives.
        phrases: see :class:`SampleDataset`.
    """
    has_objects = any(not item.iscrowd for item in record.annotations)
    wanted = negatives if has_objects else replace(negatives, count=max(negatives.count, 1))
    positives, absent = phrases_for(record, categories, wanted, rng, phrases)
    if not positives and not absent:
        # What the file lists is ruled out, by a crowd of it for example. A batch needs a phrase: an everyday word.
        absent = phrases_for(replace(record, absent_categories=None), (), Negatives(1), rng, phrases)[1]
    return [*positives, *(Prompt(phrase, ()) for phrase in absent)]


class Collator:
    """Makes a batch of samples; tokenizes the phrases as Sam3Processor does."""

    def __init__(self, processor: Any) -> None:
        self._tokenizer = processor.tokenizer
        self._size_hw = input_size(processor.image_processor)

    def __call__(self, samples: Sequence[Sample | LeftOut | DataError]) -> Batch | NothingLoaded | DataError:
        """The batch of those that are loaded, or the first error among the samples."""
        loaded: list[Sample] = []
        left_out: list[LeftOut] = []
        for sample in samples:
            if isinstance(sample, DataError):
                return sample
            if isinstance(sample, LeftOut):
                left_out.append(sample)
            else:
                loaded.append(sample)
                left_out += sample.left_out
        if not loaded:
            return NothingLoaded(tuple(left_out))
        phrases = tuple(phrase for sample in loaded for phrase in sample.phrases)
        tokens = tokenize(self._tokenizer, phrases)
        counts = torch.tensor([len(sample.phrases) for sample in loaded])
        pixels = [sample.pixel_values for sample in loaded if sample.pixel_values is not None]
        backbone, unencoded = stack_features([sample.backbone for sample in loaded])
        boxes, box_labels = pack_boxes([(len(one.phrases), one.boxes, one.box_labels) for one in loaded])
        return Batch(
            pixel_values=torch.stack(pixels) if pixels else None,
            image_index=torch.arange(len(loaded)).repeat_interleave(counts),
            phrases=phrases,
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            targets=pack_targets([sample.targets for sample in loaded], self._size_hw),
            images=tuple(sample.image for sample in loaded),
            boxes=boxes,
            box_labels=box_labels,
            backbone=backbone,
            unencoded=unencoded,
            features_at=files if any(files := tuple(sample.features_at for sample in loaded)) else (),
            left_out=tuple(left_out),
        )


def checked(batch: Batch | NothingLoaded | DataError) -> Batch:
    """The batch itself; raises the error of what is in its place."""
    if isinstance(batch, Batch):
        return batch
    raise batch if isinstance(batch, DataError) else batch.left_out[0].error


def tokenize(tokenizer: Any, phrases: Sequence[str]) -> Mapping[str, Tensor]:
    """The tokens of phrases, as Sam3Processor makes them, but truncated where the text encoder would raise.

    Args:
        tokenizer: that of the processor.
        phrases: P of them.

    Returns:
        input_ids and attention_mask, int64 (P, MAX_TOKENS).
    """
    tokens: Mapping[str, Tensor] = tokenizer(
        list(phrases), padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    return tokens


def to_pixel_values(image: np.ndarray, image_processor: Any) -> Tensor:
    """An image uint8 (H, W, 3) RGB as the processor makes it the model's input: float32 (3, S, S) in [-1, 1]."""
    from transformers.image_utils import SizeDict

    pixels, size = torch.from_numpy(image).permute(2, 0, 1), SizeDict(**dict(image_processor.size))
    # The processor would copy all pixels into planes first, and resize these ten times slower than interleaved ones.
    resized = image_processor.resize(pixels, size, image_processor.resample)
    # It would guess the axis of the channels wrongly for an image 3 pixels wide.
    processed = image_processor(resized, input_data_format="channels_first", return_tensors="pt")
    pixel_values: Tensor = processed["pixel_values"][0]
    return pixel_values


def input_size(image_processor: Any) -> tuple[int, int]:
    """(height, width) of the model's input."""
    return image_processor.size["height"], image_processor.size["width"]


def _flipped(sample: Sample, axes: Flipped) -> Sample:
    """The sample with pixels, boxes and masks flipped along axes of (H, W)."""
    if not axes:
        return sample
    pixels = None if sample.pixel_values is None else sample.pixel_values.flip([axis - 2 for axis in axes])
    return replace(sample, pixel_values=pixels, targets=flipped_targets(sample.targets, axes), flipped=axes)
