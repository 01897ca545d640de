"""Predictor: set an image once, then prompt it many times, with as much of the adapter as wanted."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sam3_lora.boxes import normalize, xyxy_to_cxcywh
from sam3_lora.data.images import BROKEN, to_rgb
from sam3_lora.data.samples import tokenize
from sam3_lora.errors import DataError, ModelError, Sam3LoraError
from sam3_lora.model import lora
from sam3_lora.model.base import LoadedModel, load_base, resolve_device
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.predict.postprocess import PhraseResult, result_of
from sam3_lora.structures import Detections, TextFeatures, VisionFeatures

VISUAL = "visual"  # the phrase SAM 3 was trained with where only example boxes say what is meant
PHRASES_AT_ONCE = 16  # more go through the model in portions, so that memory does not grow with their number
MAX_STRENGTH = 2.0
KEPT_IMAGES, KEPT_PHRASES = 3, 256  # features in the caches; those of one image at full size take 0.1 GB
# What a model stumbles over in its first image when the numbers of its configuration do not go together.
_STUMBLES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Exemplars:
    """Boxes that show on the image what is meant, or what is not.

    boxes_xyxy (K, 4) in pixels; positive (K,) bool: an object like this one, or not like this one.
    """

    boxes_xyxy: np.ndarray
    positive: np.ndarray


class Predictor:
    """SAM 3, and an adapter whose strength can be changed over the same weights.

    The usual order is :meth:`set_image`, then :meth:`prompt` as often as wanted. Features of the last
    images and phrases are kept, for the base model and for the adapter apart where it changes them.
    """

    def __init__(self, base: LoadedModel, peft_model: Any = None) -> None:
        self._base = base
        self._peft_model = peft_model
        self._detector = Sam3Detector(base.model).eval()
        self._image: Image.Image | None = None
        self._image_key = b""
        self._adapted = lora.adapted_components(base.model)
        self._strength = 0.0 if peft_model is None else 1.0
        self._has_answered = False
        self._vision: OrderedDict[tuple, VisionFeatures] = OrderedDict()
        self._without_boxes: OrderedDict[tuple, tuple[Tensor, Tensor]] = OrderedDict()
        self._text: OrderedDict[tuple, TextFeatures] = OrderedDict()

    @classmethod
    def load(cls, base: str = "demo", adapter: str | Path | None = None, device: str = "auto") -> Predictor:
        """Loads the base model and, if given, an adapter's folder.

        Raises:
            ModelError: either cannot be loaded, or they do not fit each other.
        """
        loaded = load_base(base, device=resolve_device(device))
        return cls(loaded, None if adapter is None else lora.load(loaded.model, Path(adapter)))

    @property
    def has_adapter(self) -> bool:
        return self._peft_model is not None

    @property
    def strength(self) -> float:
        """How much of the adapter is in force: 0 is exactly the base model, 1 the adapter as it was trained."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        if strength and not self.has_adapter:
            raise Sam3LoraError("Expected an adapter to switch on, but none was loaded", "Load one with adapter=FOLDER")
        if not 0 <= strength <= MAX_STRENGTH:
            raise Sam3LoraError(
                f"Expected a strength between 0 and {MAX_STRENGTH:g}, got {strength:g}",
                "Take 1 for the adapter as it is",
            )
        if strength != self._strength:
            lora.set_strength(self._peft_model, strength)
            self._strength = strength

    @property
    def adapter_enabled(self) -> bool:
        """Whether prompts are answered with the adapter; False is the untouched base model."""
        return self._strength > 0

    @adapter_enabled.setter
    def adapter_enabled(self, enabled: bool) -> None:
        self.strength = 1.0 if enabled else 0.0

    @property
    def detector(self) -> Sam3Detector:
        return self._detector

    @property
    def processor(self) -> Any:
        return self._base.processor

    @property
    def device(self) -> torch.device:
        return next(self._base.model.parameters()).device

    def set_image(self, image: np.ndarray | Image.Image | str | Path) -> None:
        """Chooses the image that the next prompts are asked of.

        Args:
            image: (H, W, 3) uint8 RGB array, PIL image or path to a file.

        Raises:
            DataError: it is none of these or cannot be read.
        """
        pixels = read_image(image)
        self._image = Image.fromarray(pixels)
        self._image_key = (
            hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16).digest() + repr(pixels.shape).encode()
        )

    @torch.inference_mode()
    def prompt(
        self,
        phrases: Sequence[str],
        threshold: float = 0.5,
        limit: int | None = None,
        examples: Exemplars | None = None,
    ) -> dict[str, PhraseResult]:
        """Asks the image for every object that each phrase names.

        Args:
            phrases: noun phrases, such as "pothole"; blank ones and repetitions are passed over. With
                examples there may be none: then the boxes alone say what is meant, under the name "visual".
            threshold: least score, in [0, 1], of an object to be returned.
            limit: at most this many objects per phrase, the best ones.
            examples: boxes on this image that go with every phrase.

        Raises:
            Sam3LoraError: no image was set, there is neither phrase nor example, or a box is empty or outside.
            ModelError: the model was loaded but cannot answer: its configuration does not go together.
        """
        if self._image is None:
            raise Sam3LoraError("Expected an image before the first prompt", "Call set_image() first")
        asked = tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))
        boxes = None if examples is None else self._example_boxes(examples)
        if not asked and boxes is None:
            raise Sam3LoraError("Expected at least one phrase", 'Name what to look for, such as "pothole"')
        asked = asked or (VISUAL,)
        size_hw = (self._image.height, self._image.width)
        results = {}
        for some in (asked[start : start + PHRASES_AT_ONCE] for start in range(0, len(asked), PHRASES_AT_ONCE)):
            detections = self._detect(some, boxes)
            results |= {
                phrase: result_of(phrase, detections, row, size_hw, threshold, limit) for row, phrase in enumerate(some)
            }
        return results

    def _detect(self, phrases: tuple[str, ...], boxes: tuple[Tensor, Tensor] | None) -> Detections:
        try:
            detections = self._compute(phrases, boxes)
        except _STUMBLES as error:
            if self._has_answered or isinstance(error, Sam3LoraError) or "memory" in str(error).lower():
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"The base model '{self._base.name}' was loaded, but cannot answer: {reason}",
                "Numbers in its config.json or its processor's files do not go together: copy or download it again",
            ) from error
        self._has_answered = True
        return detections

    def _compute(self, phrases: tuple[str, ...], boxes: tuple[Tensor, Tensor] | None) -> Detections:
        vision, text = self._vision_features(), self._text_features(phrases)
        image_index = torch.zeros(len(phrases), dtype=torch.long, device=self.device)
        repeated = () if boxes is None else (part.expand(len(phrases), *part.shape[1:]) for part in boxes)
        return self._detector.detect(vision, text, image_index, *repeated)

    def _example_boxes(self, examples: Exemplars) -> tuple[Tensor, Tensor] | None:
        """Boxes (1, K, 4) cxcywh in [0, 1] and labels (1, K) as the detector takes them; None without any."""
        if len(examples.boxes_xyxy) == 0:
            return None
        boxes_xyxy = torch.as_tensor(np.asarray(examples.boxes_xyxy), dtype=torch.float32).reshape(-1, 4)
        limits = boxes_xyxy.new_tensor((self._image.width, self._image.height) * 2)
        inside = boxes_xyxy.clamp(min=0).minimum(limits)
        empty = ~torch.isfinite(boxes_xyxy).all(1) | (inside[:, 2:] - inside[:, :2] < 1).any(1)
        if empty.any():
            number = int(empty.nonzero()[0]) + 1
            raise Sam3LoraError(
                f"Example box {number} is empty or lies outside the image of "
                f"{self._image.width} x {self._image.height} pixels",
                "Draw it around an object: [left, top, right, bottom] in pixels",
            )
        normalized = normalize(xyxy_to_cxcywh(inside), (self._image.height, self._image.width))
        labels = torch.as_tensor(np.asarray(examples.positive), dtype=torch.int64)
        return normalized[None].to(self.device), labels[None].to(self.device)

    def _vision_features(self) -> VisionFeatures:
        key = (self._image_key, self._strength if "vision_encoder" in self._adapted else 0.0)
        if key not in self._vision:
            pixels = self.processor.image_processor(images=self._image, return_tensors="pt").pixel_values
            dtype = next(self._base.model.parameters()).dtype
            _keep(self._vision, key, self._detector.encode_images(pixels.to(self.device, dtype)), KEPT_IMAGES)
        self._vision.move_to_end(key)
        vision = self._vision[key]
        changed = {"vision_encoder", "geometry_encoder"} & self._adapted
        key = (self._image_key, self._strength if changed else 0.0)
        if key not in self._without_boxes:
            _keep(self._without_boxes, key, self._detector.text_only_geometry(vision), KEPT_IMAGES)
        self._without_boxes.move_to_end(key)
        return replace(vision, text_only_geometry=self._without_boxes[key])

    def _text_features(self, phrases: tuple[str, ...]) -> TextFeatures:
        strength = self._strength if "text_encoder" in self._adapted else 0.0
        new = [phrase for phrase in phrases if (phrase, strength) not in self._text]
        if new:
            tokens = tokenize(self.processor.tokenizer, new)
            encoded = self._detector.encode_text(
                tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
            )
            for row, phrase in enumerate(new):
                features = TextFeatures(encoded.states[row : row + 1].clone(), encoded.mask[row : row + 1].clone())
                _keep(self._text, (phrase, strength), features, KEPT_PHRASES)
        found = [self._text[phrase, strength] for phrase in phrases]
        for phrase in phrases:
            self._text.move_to_end((phrase, strength))
        return TextFeatures(torch.cat([one.states for one in found]), torch.cat([one.mask for one in found]))


def _keep(cache: OrderedDict, key: tuple, value: Any, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)


def read_image(image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an array, or of a PIL image or a file, turned as its EXIF says. Raises DataError."""
    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise DataError(
                f"Expected an image of shape (H, W, 3) and type uint8, got {image.shape} and {image.dtype}",
                "Convert it to 8-bit RGB",
            )
        return image
    if Path(image).is_dir():
        raise DataError(
            f"Expected one image, but {image} is a folder", "Give a file; the inference page asks whole folders"
        )
    try:
        with Image.open(image) as file:
            return np.asarray(to_rgb(ImageOps.exif_transpose(file)))
    except FileNotFoundError:
        raise DataError(f"Expected an image at {image}, but there is no such file", "Check the path") from None
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS / 1e6
        raise DataError(
            f"The image {image} has more than {most:.0f} million pixels", "Make it smaller, or cut it into parts"
        ) from None
    except BROKEN as error:
        raise DataError(
            f"The file {image} cannot be read as an image ({error})", "Give a whole JPEG or PNG file"
        ) from None
