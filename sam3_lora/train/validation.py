"""Validation while training: the loss of the validation split, and F1 and cgF1 as Evaluate measures them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from sam3_lora.config import BestBy
from sam3_lora.data.images import load_image
from sam3_lora.data.records import ImageRecord, Split
from sam3_lora.data.samples import Batch, LeftOut, tokenize
from sam3_lora.errors import DataError
from sam3_lora.evaluate import cgf1
from sam3_lora.evaluate.predictions import (
    SCORE_THRESHOLD,
    Asked,
    PromptResult,
    asked_of,
    measured_result,
    phrases_of,
    predict_image,
)
from sam3_lora.evaluate.validation_loss import MeanLoss, mean_loss
from sam3_lora.loss import LossReport
from sam3_lora.predict.chunks import phrases_at_once
from sam3_lora.predict.phrase_subsets import take_phrases
from sam3_lora.predict.postprocess import phrase_results
from sam3_lora.predict.predictor import Predictor
from sam3_lora.structures import Detections, VisionFeatures
from sam3_lora.tiles import tiling_of
from sam3_lora.train.accelerator import from_main
from sam3_lora.train.setup import Setup

Prompt = tuple[int, str]  # which image of a batch, and a phrase


@dataclass(frozen=True)
class ValidationMetrics:
    """One validation's metrics."""

    loss: MeanLoss
    f1_50: float | None  # of masks at IoU 0.5 and score 0.5; None without objects
    cgf1: float | None  # None where no phrase, or every phrase, has objects in the images it is asked of
    left_out: tuple[LeftOut, ...] = ()  # images that could not be loaded, without which it was measured

    def columns(self) -> dict[str, Any]:
        """Its columns in a row of metrics.jsonl."""
        return asdict(self.loss) | {"f1_50": self.f1_50, "cgf1": self.cgf1}

    def value(self, by: BestBy) -> float | None:
        """The number by which adapters are compared; None where it is not defined."""
        values: dict[BestBy, float | None] = {"cgf1": self.cgf1, "f1": self.f1_50, "loss": self.loss.total}
        return values[by]


def validate(setup: Setup) -> ValidationMetrics | None:
    """Measures in the main process, for all of them; leaves the model in eval mode. None without a validation split."""
    loader, split = setup.data.valid_loader, setup.data.splits.valid
    if loader is None or split is None:
        return None
    return from_main(setup.accelerator, lambda: _measure(setup, loader, split))


def _measure(setup: Setup, loader: DataLoader, split: Split) -> ValidationMetrics:
    setup.train_mode(False)
    asking, left_out = _Asking(setup, split), list[LeftOut]()
    if tiling_of(setup.config.data) is None:
        loss = mean_loss(loader, asking.loss, left_out.append)
    else:  # the loss is of tiles, as in training; what is found is of whole images
        loss = mean_loss(loader, lambda batch: setup.forward(setup.objective, batch)[1], left_out.append)
        asking.predict_whole_images(split)
    return ValidationMetrics(loss, *asking.metrics(), tuple(left_out))


class _Asking:
    """Asks the images for the phrases of the loss and for those of Evaluate, each once, with one vision pass.

    Args:
        setup: the run, in eval mode.
        split: the images to validate on.
    """

    def __init__(self, setup: Setup, split: Split) -> None:
        base = setup.model.base
        self._setup, self._detector = setup, setup.model.detector
        self._tokenizer = base.processor.tokenizer
        self._own, self._categories = setup.config.data.category_phrases, split.prompt_categories
        self._phrases = tuple(filter(None, phrases_of(split, self._own)))  # a category's name may be all punctuation
        precision = setup.config.training.precision
        self._at_once = phrases_at_once(base.model.config, setup.accelerator.device, precision)
        self._counts: list[cgf1.ImageCounts] = []

    def loss(self, batch: Batch) -> LossReport:
        """The loss of a batch; its images are counted, too."""
        batch = self._setup.on_device(batch)
        asked = [asked_of(one, self._phrases, self._own, categories=self._categories) for one in batch.images]
        for_loss = list(zip(batch.image_index.tolist(), batch.phrases, strict=True))
        known = set(for_loss)
        further = [(n, phrase) for n, of in enumerate(asked) for phrase in of.measured if (n, phrase) not in known]
        with self._setup.accelerator.autocast():
            vision = self._detector.encode_images(batch.pixel_values, backbone=batch.backbone)
            vision = replace(vision, text_only_geometry=self._detector.text_only_geometry(vision))
            text = self._detector.encode_text(batch.input_ids, batch.attention_mask)
            detections = self._detector.detect(vision, text, batch.image_index, masks=False)
            report: LossReport = self._setup.objective.loss(detections, batch.targets)
            results = list(_results(batch.images, asked, for_loss, detections))
            for start in range(0, len(further), self._at_once):
                some = further[start : start + self._at_once]
                results += _results(batch.images, asked, some, self._detect(vision, some))
        self._counts.append(cgf1.count(results))
        return report

    def predict_whole_images(self, split: Split) -> None:
        """Counts what is found in whole images, tile by tile; images that cannot be loaded are left out."""
        setup = self._setup
        predictor = Predictor(setup.model.base, setup.model.peft, setup.config.training.precision)
        predictor.tiles = tiling_of(setup.config.data)
        for image in split.images:
            asked = asked_of(image, self._phrases, self._own, categories=self._categories).above_threshold()
            with suppress(DataError):
                found, _ = predict_image(predictor, image, asked, load_image(image))
                self._counts.append(cgf1.count(found.results))

    def metrics(self) -> tuple[float | None, float | None]:
        """F1 and cgF1 of all images so far, None where they are not defined."""
        counts = cgf1.summed(self._counts)
        present = counts.presence[0, :2].sum()
        values = {name: float(value[0]) for name, value in cgf1.scores(counts).items()}
        f1, both = values["f1_50"], values["cgf1"]
        return f1 if present else None, both if math.isfinite(both) else None

    def _detect(self, vision: VisionFeatures, prompts: Sequence[Prompt]) -> Detections:
        tokens = tokenize(self._tokenizer, [phrase for _, phrase in prompts])
        text = self._detector.encode_text(tokens["input_ids"], tokens["attention_mask"])
        return self._detector.detect(vision, text, torch.tensor([image for image, _ in prompts]), masks=False)


def _results(
    images: Sequence[ImageRecord], asked: Sequence[Asked], prompts: Sequence[Prompt], detections: Detections
) -> Iterator[PromptResult]:
    """The predictions above the score threshold beside the ground truth, of those prompts that are measured.

    Args:
        images: of a batch.
        asked: of each image.
        prompts: P images and phrases.
        detections: of these prompts.
    """
    for number, (image, of) in enumerate(zip(images, asked, strict=True)):
        rows = [row for row, (owner, phrase) in enumerate(prompts) if owner == number and phrase in of.measured]
        if not rows:
            continue
        phrases, size_hw = [prompts[row][1] for row in rows], (image.height, image.width)
        found = phrase_results(phrases, take_phrases(detections, rows), size_hw, SCORE_THRESHOLD)
        yield from (measured_result(image, of, one) for one in found.values())
