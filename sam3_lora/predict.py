"""Predictor: set an image once, then prompt it many times, with the adapter or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from sam3_lora.answers import PhraseResult, result_of
from sam3_lora.data.images import to_rgb
from sam3_lora.data.samples import tokenize
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.model import lora
from sam3_lora.model.base import BaseModel, load_base, resolve_device
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.structures import Detections, TextFeatures, VisionFeatures


class Predictor:
    """SAM 3, and an adapter that can be switched on and off over the same weights.

    The usual order is :meth:`set_image`, then :meth:`prompt` as often as wanted; the image is encoded
    once for the base model and once with the adapter.
    """

    def __init__(self, base: BaseModel, peft_model: Any = None) -> None:
        self._base = base
        self._peft_model = peft_model
        self._detector = Sam3Detector(base.model).eval()
        self._image: Image.Image | None = None
        self._vision: dict[bool, VisionFeatures] = {}
        self._text: dict[tuple[bool, tuple[str, ...]], TextFeatures] = {}
        self._adapter_enabled = peft_model is not None

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
    def adapter_enabled(self) -> bool:
        """Whether prompts are answered with the adapter; False is the untouched base model."""
        return self._adapter_enabled

    @adapter_enabled.setter
    def adapter_enabled(self, enabled: bool) -> None:
        if enabled and not self.has_adapter:
            raise Sam3LoraError("Expected an adapter to switch on, but none was loaded", "Load one with adapter=FOLDER")
        if enabled == self._adapter_enabled:
            return
        layers = self._peft_model.base_model
        layers.enable_adapter_layers() if enabled else layers.disable_adapter_layers()
        self._adapter_enabled = enabled

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
        self._image = Image.fromarray(read_image(image))
        self._vision.clear()

    @torch.inference_mode()
    def prompt(
        self, phrases: Sequence[str], threshold: float = 0.5, limit: int | None = None
    ) -> dict[str, PhraseResult]:
        """Asks the image for every object that each phrase names.

        Args:
            phrases: noun phrases, such as "pothole"; blank ones and repetitions are passed over.
            threshold: least score, in [0, 1], of an object to be returned.
            limit: at most this many objects per phrase, the best ones.

        Raises:
            Sam3LoraError: no image was set, or there is no phrase.
        """
        if self._image is None:
            raise Sam3LoraError("Expected an image before the first prompt", "Call set_image() first")
        asked = tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))
        if not asked:
            raise Sam3LoraError("Expected at least one phrase", 'Name what to look for, such as "pothole"')
        detections = self._detect(asked)
        size_hw = (self._image.height, self._image.width)
        return {
            phrase: result_of(phrase, detections, row, size_hw, threshold, limit) for row, phrase in enumerate(asked)
        }

    def _detect(self, phrases: tuple[str, ...]) -> Detections:
        vision = self._vision_features()
        image_index = torch.zeros(len(phrases), dtype=torch.long, device=self.device)
        return self._detector.detect(vision, self._text_features(phrases), image_index)

    def _vision_features(self) -> VisionFeatures:
        if self._adapter_enabled not in self._vision:
            pixels = self.processor.image_processor(images=self._image, return_tensors="pt").pixel_values
            dtype = next(self._base.model.parameters()).dtype
            self._vision[self._adapter_enabled] = self._detector.encode_images(pixels.to(self.device, dtype))
        return self._vision[self._adapter_enabled]

    def _text_features(self, phrases: tuple[str, ...]) -> TextFeatures:
        key = (self._adapter_enabled, phrases)
        if key not in self._text:
            if len(self._text) >= 32:
                self._text.clear()
            tokens = tokenize(self.processor.tokenizer, phrases)
            self._text[key] = self._detector.encode_text(
                tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
            )
        return self._text[key]


def read_image(image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an array, a PIL image or a file, turned as its EXIF says. Raises DataError for others."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(
                f"Expected an image of shape (H, W, 3) and type uint8, got {image.shape} and {image.dtype}",
                "Convert it to 8-bit RGB",
            )
        return image
    try:
        with Image.open(image) as file:
            return np.asarray(to_rgb(ImageOps.exif_transpose(file)))
    except FileNotFoundError:
        raise DataError(f"Expected an image at {image}, but there is no such file", "Check the path") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise DataError(
            f"The file {image} cannot be read as an image ({error})", "Give a whole JPEG or PNG file"
        ) from None
