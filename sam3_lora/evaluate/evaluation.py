"""Evaluates a base model, and an adapter beside it, on a split: predictions, losses, metrics, verdict, report."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replace_struct

from sam3_lora.data.dataset import ImageRecord, Split, load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.tiles.cut import TiledImages
from sam3_lora.errors import DataError
from sam3_lora.evaluate import bootstrap, cgf1
from sam3_lora.evaluate.metrics import MetricCalculator, object_sizes
from sam3_lora.evaluate.predictions import ImagePredictions, asked_of, phrases_of, predict_image, routed
from sam3_lora.evaluate.prompt_leak import PhraseGroups, phrase_groups
from sam3_lora.evaluate.report import ModelMetrics, PhraseCount, Report, StrengthMetrics
from sam3_lora.evaluate.store import step_of, weights_stamp
from sam3_lora.evaluate.text import messages
from sam3_lora.evaluate.validation_loss import ImageTargets, SplitLoss
from sam3_lora.evaluate.verdict import FEW_IMAGES, alerts_of, judge
from sam3_lora.evaluate.worst_images import worst_images
from sam3_lora.predict.postprocess import ADAPTER, BASE
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.routing import Routing
from sam3_lora.predict.tiled.choice import TilesChoice, cut_as
from sam3_lora.predict.vision_cache import KeptFeatures
from sam3_lora.structures import Detections

Progress = Callable[[float, str], None]
ROUTED = "routed"  # by phrase: the adapter's predictions for what it was taught, the base's for all else
_STRENGTHS: dict[str, float] = {BASE: 0.0, ADAPTER: 1.0}
OTHER_STRENGTHS = (0.25, 0.5, 0.75, 1.25)  # that pages offer to measure, too
_PREDICTED, _COUNTED = 0.9, 0.93  # shares of the progress at which these stages end


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated, and what the report calls it."""

    split: Split
    dataset: str
    base_name: str
    adapter_name: str | None = None
    adapter_folder: Path | None = None
    category_phrases: Mapping[str, str] = field(default_factory=dict)  # the user's own phrase of each category
    trained_on: int = 0  # images of the split that the adapter was trained on
    retention_phrases: tuple[str, ...] = ()  # what the base model finds and the adapter must not forget
    routing: Routing | None = None  # the adapter is also measured routed by these phrases; None: they are not known
    tiles: TilesChoice = "predictor"  # how large images are cut
    strengths: tuple[float, ...] = ()  # of the adapter that are also measured, see Predictor.strength


def evaluate(
    predictor: Predictor,
    request: EvaluationRequest,
    *,
    progress: Progress | None = None,
    lock: AbstractContextManager = nullcontext(),  # noqa: B008, it holds no state
) -> Report:
    """Evaluates the base model and, if the predictor has one, its adapter, side by side.

    Args:
        predictor: its strength is as before afterwards.
        request: what to evaluate.
        progress: called with the share done, in [0, 1], and what is being done, before each image and each batch; an
            exception that it raises ends the evaluation.
        lock: held while the predictor is at work and released in between, so that others may use it.

    Raises:
        DataError: the split has nothing to measure on.
        Sam3LoraError: a strength is out of the predictor's range.
    """
    return _Evaluation(predictor, request, progress or (lambda share, what: None), lock).run()


@dataclass
class _Evaluation:
    """One evaluation in progress; its fields are the arguments of :func:`evaluate`."""

    predictor: Predictor
    request: EvaluationRequest
    progress: Progress
    lock: AbstractContextManager

    def __post_init__(self) -> None:
        folder = self.request.adapter_folder if self.predictor.has_adapter else None
        self._stamp, self._step = weights_stamp(folder), step_of(folder)
        self._split = self.request.split.present()
        self._models = (BASE, ADAPTER) if self.predictor.has_adapter else (BASE,)
        others = sorted({*self.request.strengths} - {*_STRENGTHS.values()}) if self.predictor.has_adapter else []
        self._at_strengths: dict[float, list[ImagePredictions]] = {strength: [] for strength in others}
        missing = int(self.request.split.images.missing.sum())
        self._notes = [messages.left_out(missing)] if missing else []
        self._tiles = self.predictor.tiles if self.request.tiles == "predictor" else self.request.tiles
        if self._tiles is not None:
            self._notes.append(messages.in_tiles(self._tiles))

    def run(self) -> Report:
        started, request = time.monotonic(), self.request
        phrases = phrases_of(self._split, request.category_phrases)
        if not self._split.num_objects:
            raise DataError(
                f"The split '{self._split.name}' has no object to measure on", "Choose a split with annotations"
            )
        groups = phrase_groups(
            self._split, phrases, request.category_phrases, request.base_name, request.retention_phrases
        )
        predictions, losses = self._predict(groups)
        if ADAPTER in predictions and request.routing is not None:
            pairs = zip(predictions[BASE], predictions[ADAPTER], strict=True)
            taught = set(filter(request.routing.is_taught, (*groups.categories, *groups.extra)))
            predictions[ROUTED] = [routed(before, after, taught) for before, after in pairs]
            losses[ROUTED] = math.nan  # each model's loss is over all phrases of an image at once
        self.progress(_PREDICTED, "Computing metrics")
        calculators = {model: MetricCalculator(images, groups) for model, images in predictions.items()}
        metrics = {model: one.metrics(losses[model]) for model, one in calculators.items()}
        report = self._report(phrases, predictions, calculators[BASE], metrics)
        if ADAPTER in metrics:
            differences = bootstrap.differences(
                calculators[BASE], calculators[ADAPTER], report, self._resampling_progress
            )
            retention, routed_retention = (
                bootstrap.retention(predictions[BASE], predictions[model], groups) if model in predictions else None
                for model in (ADAPTER, ROUTED)
            )
            report = replace_struct(
                report,
                differences=differences,
                retention=retention,
                routed_retention=routed_retention,
                strengths=self._strength_metrics(predictions[BASE], groups),
            )
        base = report.base.metrics[report.main_metric]
        verdict = judge(report.differences, alerts_of(report), report.main_metric, report.images, base)
        self.progress(1.0, "Done")
        seconds = round(time.monotonic() - started, 1)
        return replace_struct(report, verdict=messages.verdict_sentence(verdict), seconds=seconds)

    def _report(
        self,
        phrases: tuple[str, ...],
        predictions: dict[str, list[ImagePredictions]],
        base: MetricCalculator,
        metrics: dict[str, ModelMetrics],
    ) -> Report:
        """The report but for the comparison of adapter and base."""
        request, images = self.request, len(self._split.images)
        boxes_only = not any(a.has_segmentation for image in self._split.images for a in image.annotations)
        if images < FEW_IMAGES:
            self._notes.append(messages.few_images(images))
        if boxes_only:
            self._notes.append(messages.BOXES_ONLY)
        if partly := sum(not result.exhaustive for result in base.results):
            self._notes.append(messages.not_exhaustive(partly))
        why = cgf1.why_not_defined(base.results)
        has_adapter = ADAPTER in metrics
        return Report(
            made=datetime.now().isoformat(timespec="seconds"),
            seconds=0.0,
            dataset=request.dataset,
            split=self._split.name,
            images=images,
            objects=self._split.num_objects,
            base_name=request.base_name,
            adapter_name=request.adapter_name if has_adapter else None,
            adapter_folder=str(request.adapter_folder) if request.adapter_folder and has_adapter else None,
            verdict="",
            adapter_step=self._step,
            weights_stamp=self._stamp,
            category_phrases=dict(request.category_phrases),
            boxes_only=boxes_only,
            phrases=self._phrase_counts(phrases),
            sizes=object_sizes(base.results),
            base=metrics[BASE],
            adapter=metrics.get(ADAPTER),
            differences=[],
            retention=None,
            notes=self._notes,
            not_defined={} if why is None else {"il_mcc": why, "cgf1": why},
            trained_on=request.trained_on if has_adapter else 0,
            resamples=bootstrap.resamples_for(base.num_images, len(phrases)),
            worst=worst_images(predictions[BASE], predictions.get(ADAPTER)),
            routed=metrics.get(ROUTED),
            taught=list(request.routing.taught) if request.routing and has_adapter else [],
        )

    def _predict(self, groups: PhraseGroups) -> tuple[dict[str, list[ImagePredictions]], dict[str, float]]:
        """Each model's predictions and loss; images that cannot be read are left out of the split from here on.

        Each image is encoded once per model, and once in all where the adapter leaves vision alone; each phrase goes
        through a model once, whether for the predictions, the loss or both.
        """
        predictions: dict[str, list[ImagePredictions]] = {model: [] for model in self._models}
        images, own_phrases = self._split.images, self.request.category_phrases
        loss = SplitLoss(self.predictor, self._split.prompt_categories, own_phrases)
        readable = np.ones(len(images), dtype=bool)
        kept = KeptFeatures(self.predictor)
        tiles = None if self._tiles is None else TiledImages(images, self._tiles)
        for number, image in enumerate(images):
            try:
                pixels = load_image(image)
            except DataError:
                readable[number] = False
                continue
            backbone = kept.of(image)
            parts = [] if tiles is None else [tiles[place] for place in tiles.places_of(number)]
            for_loss = None if tiles is not None else loss.next_image(image)
            of_parts = [(part, loss.next_image(part)) for part in parts]
            loss_phrases = () if for_loss is None else for_loss.phrases
            categories = self._split.prompt_categories
            asked = asked_of(image, groups.categories, own_phrases, groups.extra, loss_phrases, categories)
            doing = f"Image {number + 1} of {len(images)}"
            for model in self._models:
                with self._at(_STRENGTHS[model], _PREDICTED * number / len(images), doing):
                    found, detections = predict_image(self.predictor, image, asked, pixels, backbone)
                    predictions[model].append(found)
                    if for_loss is not None:
                        loss.add(model, for_loss, detections)
                    for part, targets in of_parts:
                        loss.add(model, targets, self._detections(part, targets, pixels))
            for strength, of_images in self._at_strengths.items():
                with self._at(strength, _PREDICTED * number / len(images), doing):
                    found, _ = predict_image(self.predictor, image, asked.above_threshold(), pixels, backbone)
                    of_images.append(found)
        kept.close()
        for model in filter(loss.is_waiting, self._models):
            with self._at(_STRENGTHS[model], _PREDICTED, "Validation loss"):
                loss.finish(model)
        self._leave_out(~readable)
        if not any(image.results for image in predictions[BASE]):
            raise DataError(
                f"Nothing can be measured in '{self._split.name}': each image has unusable annotations of each "
                "category, or cannot be read",
                "Correct them; the dataset page shows which",
            )
        return predictions, {model: loss.mean(model) for model in self._models}

    def _detections(self, part: ImageRecord, asked: ImageTargets, pixels: np.ndarray) -> Detections | None:
        """What the model detects in a tile for the loss; pixels: of the whole image."""
        pixels = pixels if part.window is None else part.window.crop(pixels)
        of_loss = asked_of(part, (), self.request.category_phrases, (), asked.phrases, self._split.prompt_categories)
        return predict_image(self.predictor, part, of_loss, pixels)[1]

    def _strength_metrics(self, base: list[ImagePredictions], groups: PhraseGroups) -> list[StrengthMetrics]:
        return [
            StrengthMetrics(
                strength,
                MetricCalculator(images, groups).metrics_above_threshold(),
                bootstrap.retention(base, images, groups),
            )
            for strength, images in self._at_strengths.items()
        ]

    def _leave_out(self, unreadable: np.ndarray) -> None:
        """Goes on without images that cannot be read; unreadable: (I,) bool."""
        images = self._split.images
        if unreadable.any():
            names = [image.file_name for image in images.take(unreadable)]
            self._notes.append(messages.left_out(len(names), names))
        self._split = replace(self._split, images=images.take(~unreadable))

    @contextmanager
    def _at(self, strength: float, share: float, doing: str) -> Iterator[None]:
        """Reports progress, and holds the predictor at a strength of its adapter; 0 is the base model."""
        self.progress(share, doing)
        with self.lock, cut_as(self.predictor, self._tiles):
            before, self.predictor.strength = self.predictor.strength, strength
            try:
                yield
            finally:
                self.predictor.strength = before

    def _resampling_progress(self, share: float) -> None:
        self.progress(_COUNTED + (1 - _COUNTED) * share, "Bootstrap confidence intervals")

    def _phrase_counts(self, phrases: tuple[str, ...]) -> dict[str, PhraseCount]:
        phrase_by_category = {c: phrase_of(c, self.request.category_phrases) for c in self._split.categories}
        found = [
            [phrase_of(one.category, self.request.category_phrases) for one in image.annotations if not one.iscrowd]
            for image in self._split.images
        ]
        objects, images = Counter(chain(*found)), Counter(chain(*map(set, found)))
        return {
            phrase: PhraseCount(
                objects[phrase], images[phrase], [c for c, of in phrase_by_category.items() if of == phrase]
            )
            for phrase in phrases
        }
