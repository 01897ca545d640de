"""Learns a concept from a few examples: prompt tokens alone are trained, the model stays as it is.

The idea is textual inversion (Gal et al. 2022, arXiv:2208.01618), here with the loss that SAM 3 is trained with. Since
no weight changes, nothing can be forgotten; images are encoded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam3_lora.boxes import normalize, xyxy_to_cxcywh
from sam3_lora.config import LossConfig
from sam3_lora.data.targets import pack_targets
from sam3_lora.errors import DataError, NotFiniteError
from sam3_lora.loss.wrapper import Sam3LossWrapper
from sam3_lora.masks import decode_resized, encode_rle, mask_to_box_xyxy
from sam3_lora.model.concept import MAX_TOKENS, Concept, ConceptCard, base_digest, check_name, features_of_tokens
from sam3_lora.predict.predictor import Predictor
from sam3_lora.structures import Targets, VisionFeatures

MAX_EXAMPLES = 64
_START = "object"  # the phrase that learning begins with where none is given
_SMALL_IMAGE = 400  # pixels a side of the model's image up to which a step takes all images at once
_WARM_UP = 5  # steps


@dataclass(frozen=True)
class Example:
    """An image with every object of the concept in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) float in pixels; none: the concept is not in the image.
        masks: of each object, (H, W) bool, or None where only its box is known.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    masks: tuple[np.ndarray | None, ...] = ()

    @classmethod
    def of_masks(cls, image: np.ndarray, masks: Sequence[np.ndarray]) -> Example:
        """An example from the masks of its objects, none of them empty."""
        boxes = np.array([mask_to_box_xyxy(mask) for mask in masks], np.float64).reshape(-1, 4)
        return cls(image, boxes, tuple(masks))


@dataclass(frozen=True)
class LearnOptions:
    """How a concept is learned."""

    tokens: int = 4  # numbers of the prompt: each as long as the features of a token of text
    steps: int = 200
    rate: float = 0.1  # of learning, as a share of how large the features of text are
    images_per_step: int = 4
    seed: int = 0


@dataclass(frozen=True)
class LearnProgress:
    """A step of learning."""

    step: int  # from 1
    steps: int
    loss: float


def learn(
    predictor: Predictor,
    name: str,
    examples: Sequence[Example],
    *,
    phrase: str = "",
    options: LearnOptions | None = None,
    progress: Callable[[LearnProgress], None] | None = None,
) -> Concept:
    """Learns a concept for the predictor's model, at its strength.

    Args:
        predictor: the model; with an adapter at a strength above 0, the concept is for both together.
        name: of the concept, to be prompted as "<name>".
        examples: at least one with an object; images without any teach what it is not.
        phrase: words to begin with, which describe it roughly.
        options: how it is learned.
        progress: called after each step; an exception that it raises ends learning.

    Raises:
        DataError: there is no object, or too many examples, or a box is empty or outside its image.
        ModelError: the name is none.
        NotFiniteError: the loss is not a number.
    """
    options = options or LearnOptions()
    name = check_name(name)
    check_examples(examples)
    learner = _Learner(predictor, examples, phrase or _START, options)
    for step, loss in enumerate(learner.steps(), start=1):
        if progress is not None:
            progress(LearnProgress(step, options.steps, loss))
    with_objects = [example for example in examples if len(example.boxes_xyxy)]
    card = ConceptCard(
        name=name,
        base=predictor.base_name,
        base_digest=base_digest(predictor.detector.base),
        adapter_digest=predictor.concepts.adapter_digest if predictor.strength else "",
        phrase=phrase,
        images=len(with_objects),
        objects=sum(len(example.boxes_xyxy) for example in with_objects),
        negatives=len(examples) - len(with_objects),
        steps=options.steps,
    )
    return Concept(card, learner.tokens.detach().float().cpu().clone())


def check_examples(examples: Sequence[Example]) -> None:
    """Raises DataError where :func:`learn` would."""
    if not any(len(example.boxes_xyxy) for example in examples):
        raise DataError("Expected at least one example of the concept", "Draw a box around one")
    if len(examples) > MAX_EXAMPLES:
        raise DataError(
            f"Expected at most {MAX_EXAMPLES} example images, got {len(examples)}",
            "Train an adapter: so many examples are better spent on one",
        )
    for number, example in enumerate(examples, start=1):
        height, width = example.image.shape[:2]
        boxes = np.asarray(example.boxes_xyxy, np.float64).reshape(-1, 4)
        inside = np.clip(boxes, 0, (width, height, width, height))
        if not np.isfinite(boxes).all() or (inside[:, 2:] - inside[:, :2] < 1).any():
            raise DataError(
                f"A box of example {number} is empty or outside its image of {width} x {height} pixels",
                "Draw it around an object",
            )


class _Learner:
    """Learning in progress.

    Attributes:
        tokens: (K, C), as they are now.
    """

    def __init__(self, predictor: Predictor, examples: Sequence[Example], phrase: str, options: LearnOptions) -> None:
        self._predictor, self._options = predictor, options
        self._rng = np.random.default_rng(options.seed)
        self._loss = Sam3LossWrapper.from_config(LossConfig())
        size = predictor.image_size
        self._size_hw = (size, size)
        self._vision = [_features_of(predictor, example.image).to("cpu") for example in examples]
        self._targets = [_targets_of(example, self._size_hw) for example in examples]
        self._with, self._without = (
            [place for place, example in enumerate(examples) if bool(len(example.boxes_xyxy)) is wanted]
            for wanted in (True, False)
        )
        text = predictor.text_features((phrase,))
        real = text.states[0][text.mask[0]].float()
        self._length = text.states.shape[1]
        count = min(options.tokens, MAX_TOKENS)
        first = torch.cat((real[:count], real.mean(0, keepdim=True).expand(max(0, count - len(real)), -1)))
        # Equal tokens would stay equal.
        noise = torch.from_numpy(self._rng.normal(size=tuple(first.shape)).astype(np.float32)).to(first)
        rms = float(real.square().mean().sqrt())
        self.tokens = (first + 0.02 * rms * noise).clone().requires_grad_(True)
        self._optimizer = torch.optim.AdamW([self.tokens], lr=options.rate * rms, weight_decay=0.0)

    def steps(self) -> Iterator[float]:
        """Takes all steps; yields the loss of each. The rate warms up, then falls to 0 along a cosine."""
        options = self._options
        base_rate = self._optimizer.param_groups[0]["lr"]
        detector = self._predictor.detector
        for step in range(options.steps):
            warm = min(1.0, (step + 1) / _WARM_UP)
            rate = base_rate * warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))
            self._optimizer.param_groups[0]["lr"] = rate
            chosen = self._draw()
            at_once = len(chosen) if self._size_hw[0] <= _SMALL_IMAGE else 1
            parts = [chosen[start : start + at_once] for start in range(0, len(chosen), at_once)]
            gradient, total = torch.zeros_like(self.tokens), 0.0
            try:
                # The detector alone, not its layers, so that it predicts one-to-many, too, without dropout.
                detector.training = True
                for part in parts:
                    with torch.enable_grad(), self._predictor.autocast():
                        loss = self._loss_of(part) * (len(part) / len(chosen))
                    gradient += torch.autograd.grad(loss, self.tokens)[0]
                    total += float(loss.detach())
            finally:
                detector.training = False
            if not (math.isfinite(total) and bool(torch.isfinite(gradient).all())):
                raise NotFiniteError("The loss is not a number any more", "Lower the rate, or check the boxes")
            self.tokens.grad = gradient
            self._optimizer.step()
            yield total

    def _draw(self) -> list[int]:
        """The images of a step: half of them with objects, half without, where there are both."""
        count = self._options.images_per_step
        positives = min(len(self._with), count - min(len(self._without), count // 2))
        negatives = min(len(self._without), count - positives)
        drawn = [
            self._rng.choice(part, wanted, replace=False)
            for part, wanted in ((self._with, positives), (self._without, negatives))
            if wanted
        ]
        return [int(place) for place in np.concatenate(drawn)]

    def _loss_of(self, chosen: list[int]) -> Tensor:
        device = self._predictor.device
        vision = _stacked([self._vision[place] for place in chosen]).to(device)
        targets = pack_targets([self._targets[place] for place in chosen], self._size_hw).to(device)
        text = features_of_tokens(self.tokens, self._length, len(chosen))
        index = torch.arange(len(chosen))
        detections = self._predictor.detector.detect(vision, text, index, masks=False)
        total: Tensor = self._loss(detections, targets).total
        return total


def _targets_of(example: Example, size_hw: tuple[int, int]) -> Targets:
    """The objects of an example as the loss wants them, masks at the model's input size."""
    image_hw = example.image.shape[0], example.image.shape[1]
    boxes = torch.as_tensor(np.asarray(example.boxes_xyxy, np.float64).reshape(-1, 4))
    masks = [*example.masks, *[None] * (len(boxes) - len(example.masks))]
    resized = [None if mask is None else decode_resized(encode_rle(mask), image_hw, size_hw) for mask in masks]
    valid = [mask is not None and bool(mask.any()) for mask in resized]
    empty = np.zeros(size_hw, bool)
    pixels = [mask if mask is not None and ok else empty for mask, ok in zip(resized, valid, strict=True)]
    return Targets(
        boxes=xyxy_to_cxcywh(normalize(boxes, image_hw).clamp(0, 1)).float(),
        counts=torch.tensor([len(boxes)]),
        masks=torch.from_numpy(np.stack(pixels)) if any(valid) else None,
        mask_valid=torch.tensor(valid, dtype=torch.bool),
        exhaustive=torch.ones(1, dtype=torch.bool),
    )


def _stacked(features: Sequence[VisionFeatures]) -> VisionFeatures:
    """Features of several images as those of a batch."""
    geometry = [one.text_only_geometry for one in features if one.text_only_geometry is not None]
    return VisionFeatures(
        fpn=tuple(torch.cat(maps) for maps in zip(*(one.fpn for one in features), strict=True)),
        position=tuple(torch.cat(maps) for maps in zip(*(one.position for one in features), strict=True)),
        text_only_geometry=(torch.cat([one[0] for one in geometry]), torch.cat([one[1] for one in geometry])),
    )


def _features_of(predictor: Predictor, image: np.ndarray) -> VisionFeatures:
    """Features that gradients may pass through, which those that a predictor keeps for its prompts do not allow."""
    with predictor.showing(image), torch.no_grad(), predictor.autocast():
        vision = predictor.detector.encode_images(predictor.pixel_values().to(predictor.device))
        return replace(vision, text_only_geometry=predictor.detector.text_only_geometry(vision))
