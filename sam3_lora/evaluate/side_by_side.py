"""Measures a predictor on a split: the base model, and an adapter beside it, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from sam3_lora.data.dataset import Split
from sam3_lora.data.prompts import phrase_of
from sam3_lora.errors import DataError
from sam3_lora.evaluate import average_precision, bootstrap, cgf1
from sam3_lora.evaluate.differences import differences, remembered
from sam3_lora.evaluate.metrics import Counted, object_sizes
from sam3_lora.evaluate.predictions import ImagePredictions, PromptResult, ask, phrases_of, pixels_of
from sam3_lora.evaluate.prompt_leak import Words, words_for
from sam3_lora.evaluate.report import Count, Report, Values, main_metric
from sam3_lora.evaluate.validation_loss import validation_loss
from sam3_lora.evaluate.verdict import FEW_IMAGES, alarms, verdict
from sam3_lora.evaluate.worst_images import worst_images
from sam3_lora.predict.predictor import Predictor
from sam3_lora.text import plural

Progress = Callable[[float, str], None]
BASE, ADAPTER = "base", "adapter"
_STRENGTHS = {BASE: 0.0, ADAPTER: 1.0}
_ASKING, _LOSS, _COUNTING = 0.8, 0.9, 0.93  # shares of the progress at which these end


class Cancelled(Exception):
    """Somebody asked for the evaluation to end before it was done."""


def evaluate(
    predictor: Predictor,
    split: Split,
    *,
    num_negatives: int = 3,
    batch_size: int = 2,
    phrases: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Values:
    """Measures the predictor, as its adapter is switched now, on every image of a split.

    Every image is asked for every phrase that the split's objects have.

    Args:
        num_negatives, batch_size: of the validation loss.
        phrases: the user's own words by category, see :func:`sam3_lora.data.prompts.phrase_of`.
        progress: told the share done, in [0, 1], and what is being done.

    Returns:
        map_bbox, map_segm (COCO, IoU 0.5:0.95), f1_50 (masks, IoU 0.5, score 0.5), positive_f1, il_mcc and cgf1
        (None where not defined: see :func:`sam3_lora.evaluate.cgf1.why_not_defined`), validation_loss.

    Raises:
        DataError: the split has no object to be found, or an image cannot be read.
    """
    tell = progress or (lambda share, what: None)
    split = split.present()
    asked = _phrases_to_ask(split, phrases)
    pairs: list[PromptResult] = []
    for number, image in enumerate(split.images):
        tell(0.9 * number / len(split.images), f"Image {number + 1} of {len(split.images)}")
        pairs += ask(predictor, image, asked, phrases).pairs
    _refuse_unless_measurable(pairs, split)
    tell(0.9, "Validation loss")
    loss = validation_loss(predictor, split, num_negatives, batch_size, phrases)
    tell(1.0, "Done")
    return {**average_precision.coco_map(pairs), **cgf1.concept_f1(pairs), "validation_loss": loss}


def measure(
    predictor: Predictor,
    split: Split,
    *,
    dataset: str,
    base_name: str,
    adapter_name: str | None = None,
    adapter_folder: Path | None = None,
    phrases: Mapping[str, str] | None = None,
    own_words: Sequence[str] = (),
    num_negatives: int = 3,
    batch_size: int = 2,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    turn: Callable[[], AbstractContextManager] = nullcontext,
) -> Report:
    """Measures base model and adapter side by side, in depth.

    Args:
        predictor: with an adapter or without; its strength is as before afterwards.
        dataset, base_name, adapter_name, adapter_folder: what the report calls them.
        phrases: the user's own words by category.
        own_words: further words that the base knows and that the adapter must not forget.
        cancelled: asked before each image and each batch.
        turn: entered whenever the predictor is used, and left in between, so that others may use it, too.

    Raises:
        DataError: the split has nothing to measure on.
        Cancelled: `cancelled` said so.
    """
    return _Measuring(
        predictor,
        split,
        dict(phrases or {}),
        tuple(own_words),
        (num_negatives, batch_size),
        progress or (lambda share, what: None),
        cancelled or (lambda: False),
        turn,
    ).report(dataset, base_name, adapter_name, adapter_folder)


class _Measuring:
    """One evaluation under way."""

    def __init__(
        self,
        predictor: Predictor,
        split: Split,
        phrases: dict[str, str],
        own_words: tuple[str, ...],
        loss_settings: tuple[int, int],
        tell: Progress,
        cancelled: Callable[[], bool],
        turn: Callable[[], AbstractContextManager],
    ) -> None:
        self._predictor, self._split, self._phrases, self._own_words = predictor, split.present(), phrases, own_words
        self._loss_settings, self._tell, self._cancelled, self._turn = loss_settings, tell, cancelled, turn
        self._models = (BASE, ADAPTER) if predictor.has_adapter else (BASE,)
        self._notes: list[str] = []
        if missing := len(split.images) - len(self._split.images):
            self._notes.append(f"{_left_out(missing)} because the files are missing.")

    def report(self, dataset: str, base_name: str, adapter_name: str | None, adapter_folder: Path | None) -> Report:
        began, split = time.monotonic(), self._split
        asked = _phrases_to_ask(split, self._phrases)
        words = words_for(split, asked, self._phrases, base_name, self._own_words)
        answers = self._ask_everything(words)
        losses = self._losses()
        self._tell(_LOSS, "Counting")
        counted = {model: Counted(images, words) for model, images in answers.items()}
        numbers = {model: one.numbers(losses[model]) for model, one in counted.items()}
        pairs = counted[BASE].pairs
        boxes_only = not any(a.has_segmentation for image in self._split.images for a in image.annotations)
        main = main_metric(boxes_only)
        drawn = bootstrap.draws(counted[BASE].images, bootstrap.resamples_for(counted[BASE].images, len(asked)))
        phrases, sizes = self._counts(asked), object_sizes(pairs)
        objects = {("phrase", phrase): count.objects for phrase, count in phrases.items()}
        objects |= {("size", size): count for size, count in sizes.items()}
        changes, memory = [], None
        if ADAPTER in counted:
            both = ((counted[model], numbers[model]) for model in (BASE, ADAPTER))
            changes = differences(*both, main, objects, drawn, self._tell_drawing)
            memory = remembered(answers[BASE], answers[ADAPTER], words)
        found = alarms(changes, memory, main)
        images = len(self._split.images)
        if images < FEW_IMAGES:
            self._notes.append(f"Only {plural(images, 'image')}: take the numbers and their intervals with care.")
        if boxes_only:
            self._notes.append("No object has an outline, so masks are measured against boxes and box mAP decides.")
        why = cgf1.why_not_defined(pairs)
        report = Report(
            made=datetime.now().isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 1),
            dataset=dataset,
            split=split.name,
            images=images,
            objects=self._split.num_objects,
            base_name=base_name,
            adapter_name=adapter_name if ADAPTER in numbers else None,
            adapter_folder=str(adapter_folder) if adapter_folder and ADAPTER in numbers else None,
            verdict=verdict(changes, found, main, images, numbers[BASE].metrics[main]),
            own_phrases=self._phrases,
            boxes_only=boxes_only,
            phrases=phrases,
            sizes=sizes,
            base=numbers[BASE],
            adapter=numbers.get(ADAPTER),
            differences=changes,
            kept=memory,
            alarms=found,
            notes=self._notes,
            not_defined={} if why is None else {"il_mcc": why, "cgf1": why},
            resamples=len(drawn),
            worst=worst_images(answers[BASE], answers.get(ADAPTER)),
        )
        self._tell(1.0, "Done")
        return report

    def _ask_everything(self, words: Words) -> dict[str, list[ImagePredictions]]:
        """What each model answered; images that cannot be read are left out of the split from here on."""
        answers: dict[str, list[ImagePredictions]] = {model: [] for model in self._models}
        images, readable = self._split.images, np.ones(len(self._split.images), dtype=bool)
        for number, image in enumerate(images):
            self._check()
            self._tell(_ASKING * number / len(images), f"Image {number + 1} of {len(images)}")
            try:
                pixels = pixels_of(image)
            except DataError:
                readable[number] = False
                continue
            for model in self._models:
                with self._as(model):
                    found = ask(self._predictor, image, words.categories, self._phrases, words.others, pixels)
                    answers[model].append(found)
        if not readable.all():
            left_out = [image.file_name for image in images.take(~readable)]
            shown = ", ".join(left_out[:3]) + (" and others" if len(left_out) > 3 else "")
            self._notes.append(f"{_left_out(len(left_out))} because they cannot be read: {shown}.")
        self._split = replace(self._split, images=images.take(readable))
        _refuse_unless_measurable([pair for image in answers[BASE] for pair in image.pairs], self._split)
        return answers

    def _losses(self) -> dict[str, float]:
        losses = {}
        for number, model in enumerate(self._models):
            self._tell(_ASKING + (_LOSS - _ASKING) * number / len(self._models), "Validation loss")
            losses[model] = validation_loss(
                self._predictor, self._split, *self._loss_settings, self._phrases, lambda model=model: self._as(model)
            )
        return losses

    @contextmanager
    def _as(self, model: str) -> Iterator[None]:
        """The predictor, for as long as it answers as the base model or with the adapter as it was trained."""
        self._check()
        with self._turn():
            before = self._predictor.strength
            self._predictor.strength = _STRENGTHS[model]
            try:
                yield
            finally:
                self._predictor.strength = before

    def _tell_drawing(self, share: float) -> None:
        self._check()
        self._tell(_COUNTING + (1 - _COUNTING) * share, "Drawing images again for the intervals")

    def _check(self) -> None:
        if self._cancelled():
            raise Cancelled

    def _counts(self, asked: tuple[str, ...]) -> dict[str, Count]:
        categories: dict[str, list[str]] = {phrase: [] for phrase in asked}
        for category in self._split.categories:
            if (phrase := phrase_of(category, self._phrases)) in categories:
                categories[phrase].append(category)
        objects, images = dict.fromkeys(asked, 0), dict.fromkeys(asked, 0)
        for image in self._split.images:
            found = [phrase_of(a.category, self._phrases) for a in image.annotations if not a.iscrowd]
            for phrase in found:
                objects[phrase] = objects.get(phrase, 0) + 1
            for phrase in set(found):
                images[phrase] = images.get(phrase, 0) + 1
        return {phrase: Count(objects[phrase], images[phrase], categories[phrase]) for phrase in asked}


def _left_out(count: int) -> str:
    return f"{plural(count, 'image')} {'was' if count == 1 else 'were'} left out"


def _phrases_to_ask(split: Split, phrases: Mapping[str, str] | None) -> tuple[str, ...]:
    asked = phrases_of(split, phrases)
    if not asked:
        raise DataError(f"The split '{split.name}' has no object to measure on", "Choose a split with annotations")
    return asked


def _refuse_unless_measurable(pairs: list[PromptResult], split: Split) -> None:
    if not pairs:
        raise DataError(
            f"Nothing can be measured in '{split.name}': each image has unusable annotations of each category, "
            "or cannot be read",
            "Correct them; the dataset page shows which",
        )
