"""Predictor: set an image once, then prompt it many times, with any strength of the adapter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sam3_lora.boxes import normalize, xyxy_to_cxcywh
from sam3_lora.data.images import BROKEN, open_image, require_no_heic, to_rgb, why_broken
from sam3_lora.data.samples import to_pixel_values, tokenize
from sam3_lora.errors import DataError, ModelError, Sam3LoraError, first_line
from sam3_lora.model import kept_text, lora
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.base import LoadedModel, load_base, resolve_device
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import autocast, convert_frozen, resolve_precision
from sam3_lora.predict.chunks import phrases_at_once
from sam3_lora.predict.feature_cache import FeatureCache
from sam3_lora.predict.postprocess import ADAPTER, BASE, PhraseResult, phrase_results
from sam3_lora.predict.routing import Routing
from sam3_lora.structures import VISUAL, Detections, TextFeatures, VisionFeatures

if TYPE_CHECKING:
    from peft import PeftModel

MAX_STRENGTH = 2.0
CACHED_IMAGE_BYTES = 400 * 10**6  # at full size the features of one image take 112 MB, in bf16 the half
# Raised in the first forward pass when numbers of the model's configuration contradict each other.
_CONFIG_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Exemplars:
    """Boxes on the image that show by example what to find, or what not to find."""

    boxes_xyxy: np.ndarray  # (K, 4) float in pixels
    positive: np.ndarray  # (K,) bool: find objects like this one, or none like this one


@dataclass(frozen=True)
class Chunk:
    """Some of a prompt's phrases, computed together."""

    results: dict[str, PhraseResult]  # by phrase
    detections: Detections  # of these phrases, without masks, but with a mask head


class Predictor:
    """Finds the objects that phrases name in an image, with SAM 3 and, at any strength, an adapter.

    Call :meth:`set_image`, then :meth:`prompt` as often as needed: the image is encoded only once. Features of the
    last images and phrases are cached, separately for each strength of an adapter that changes them: base model and
    adapter share what the adapter leaves alone.

    Attributes:
        detector: the model that prompts run through.
        processor: makes tensors of images and phrases.
        precision: of forward passes: "fp32", "bf16" or "fp16".

    Example:
        >>> predictor = Predictor.load("demo")
        >>> predictor.set_image("road.jpg")
        >>> result = predictor.prompt(["pothole"], threshold=0.5)["pothole"]
        >>> result.boxes_xyxy.shape, result.masks.shape  # (K, 4) in pixels; (K, H, W) bool
    """

    def __init__(self, base: LoadedModel, peft_model: PeftModel | None = None, precision: str = "auto") -> None:
        """Wraps loaded models; :meth:`load` is the usual way.

        Args:
            base: the base model.
            peft_model: the same model with an adapter attached, from :func:`sam3_lora.model.lora.load`.
            precision: see :meth:`load`.

        Raises:
            ConfigError: the device cannot compute in this precision.
        """
        self._base = base
        self._peft_model = peft_model
        self.detector = Sam3Detector(base.model).eval()
        self.processor = base.processor
        self.precision = resolve_precision(precision, self.device)
        self._image: np.ndarray | None = None
        self._image_key = b""
        self._size_hw = (0, 0)
        self._backbone: Tensor | None = None
        self._pixel_values: tuple[bytes, Tensor] | None = None  # of the image with this key
        self._adapted = lora.adapted_components(base.model)
        self._strength = 0.0 if peft_model is None else 1.0
        self._has_run = False
        self._vision: FeatureCache[VisionFeatures] = FeatureCache(CACHED_IMAGE_BYTES)
        self._text_only_geometry: FeatureCache[tuple[Tensor, Tensor]] = FeatureCache(CACHED_IMAGE_BYTES // 1000)
        self._weights = object()  # names those of an adapter of the text encoder as they are now

    @classmethod
    def load(
        cls,
        base: str = "demo",
        adapter: str | Path | None = None,
        device: str = "auto",
        *,
        precision: str = "auto",
        image_size: int | None = None,
        processor: str = "",
    ) -> Predictor:
        """Loads the base model and, if given, an adapter.

        Args:
            base: "demo", a Hugging Face Hub id such as facebook/sam3, a folder, or Meta's sam3.pt.
            adapter: a folder that training or PEFT wrote; None for the base model alone.
            device: "auto" (a GPU where there is one), "cpu", "cuda" or "mps".
            precision: of forward passes: "auto" (bf16 on a GPU that computes in it, else fp32), "fp32", "bf16" or
                "fp16". Post-processing is in float32.
            image_size: side in pixels of the square that images are resized to; None for the one that the adapter was
                trained with, or the base's own.
            processor: folder or Hub id of the processor; "" for the one that the adapter was trained with, or the
                base's own.

        Raises:
            ModelError: either cannot be loaded, they do not fit each other, or there is no such device.
            ConfigError: the device cannot compute in this precision.
        """
        where = resolve_device(device)
        resolved = resolve_precision(precision, where)
        trained = AdapterBase() if adapter is None else adapter_base.read(find_adapter(adapter))
        loaded = load_base(base, image_size=image_size or trained.image_size, processor=processor or trained.processor)
        adapted = None if adapter is None else lora.load(loaded.model, Path(adapter))
        convert_frozen(loaded.model, resolved)
        loaded.to(where)
        return cls(loaded, adapted, resolved)

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter was loaded, whatever its strength."""
        return self._peft_model is not None

    @property
    def strength(self) -> float:
        """The adapter's scale, in [0, MAX_STRENGTH]: 0 is exactly the base model, 1 the adapter as trained.

        Raises:
            Sam3LoraError: set out of this range, or above 0 without an adapter.
        """
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        if strength and not self.has_adapter:
            raise Sam3LoraError("Expected an adapter to enable, but none was loaded", "Load one with adapter=FOLDER")
        if not 0 <= strength <= MAX_STRENGTH:
            raise Sam3LoraError(
                f"Expected a strength between 0 and {MAX_STRENGTH:g}, got {strength:g}",
                "Use 1 for the adapter as trained",
            )
        if strength != self._strength and self._peft_model is not None:
            lora.set_strength(self._peft_model, strength)
            self._strength = strength

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._base.model.parameters()).device

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which forward passes compute in the predictor's precision."""
        return autocast(self.device, self.precision)

    def forget(self) -> None:
        """Drops all cached features: for weights that have changed, and to measure."""
        self._vision.clear()
        self._text_only_geometry.clear()
        self._weights = object()
        kept_text.forget(self._base.model)

    def set_image(
        self,
        image: np.ndarray | Image.Image | str | Path,
        size_hw: tuple[int, int] | None = None,
        backbone: Tensor | None = None,
    ) -> None:
        """Sets the image for the prompts that follow; it is encoded at the first of them.

        Args:
            image: (H, W, 3) uint8 RGB array in [0, 255], PIL image, or path to an image file. PIL images and files
                are rotated as their EXIF data says.
            size_hw: height and width in pixels that results and exemplars refer to, if not the image's own.
            backbone: (1, H*W, C), what the base model's vision backbone makes of this image in the predictor's
                precision, if it is known; left aside where the adapter changes vision.

        Raises:
            DataError: it is none of these, or cannot be read.
        """
        pixels = read_image(image)
        self._image = pixels
        self._size_hw = size_hw or (pixels.shape[0], pixels.shape[1])
        self._backbone = None if "vision_encoder" in self._adapted else backbone
        self._image_key = (
            hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest() + repr(pixels.shape).encode()
        )

    def prompt(
        self,
        phrases: Sequence[str],
        threshold: float | Mapping[str, float] = 0.5,
        limit: int | None = None,
        exemplars: Exemplars | None = None,
        use_presence: bool = True,
        routing: Routing | None = None,
    ) -> dict[str, PhraseResult]:
        """Finds every object that each phrase names in the image set last.

        Args:
            phrases: noun phrases, such as "pothole"; blank ones and repetitions are ignored. There may be none with
                exemplars: then the boxes alone are the prompt, and the result is named "visual".
            threshold: minimum score of an object, in [0, 1]; or that of each phrase, without spaces around it. Masks
                take most of the time and are made above it only.
            limit: maximum number of objects per phrase; None for all.
            exemplars: boxes on this image that apply to every phrase.
            use_presence: whether the scores that are compared with the threshold include the probability that the
                phrase is in the image, as those of the results do.
            routing: which phrases the adapter answers, at its strength; the base model answers the others. Boxes
                alone are the adapter's. None: the adapter answers all.

        Returns:
            By phrase, in the order given: the objects, best first, in pixels of the image. Duplicates are still in
            it; :func:`sam3_lora.predict.postprocess.postprocess_all` removes them.

        Raises:
            Sam3LoraError: no image was set, there is neither a phrase nor an exemplar, or a box is empty or outside.
            ModelError: the model's configuration contradicts itself.
        """
        results: dict[str, PhraseResult] = {}
        for chunk in self.prompt_in_chunks(phrases, threshold, limit, exemplars, use_presence, routing):
            results |= chunk.results
        return {phrase: results[phrase] for phrase in _distinct(phrases) or (VISUAL,)}

    @torch.inference_mode()
    def prompt_in_chunks(
        self,
        phrases: Sequence[str],
        threshold: float | Mapping[str, float] = 0.5,
        limit: int | None = None,
        exemplars: Exemplars | None = None,
        use_presence: bool = True,
        routing: Routing | None = None,
    ) -> Iterator[Chunk]:
        """As :meth:`prompt`, as many phrases at a time as memory allows, with the detections of all their queries.

        Routed phrases come in two parts, the base model's first. While the caller has a chunk, the strength is that of
        its answers, for the mask head.
        """
        if self._image is None:
            raise Sam3LoraError("Expected an image before the first prompt", "Call set_image() first")
        names = _distinct(phrases)
        boxes = None if exemplars is None else self._exemplar_boxes(exemplars)
        if not names and boxes is None:
            raise Sam3LoraError("Expected at least one phrase", 'Name what to find, such as "pothole"')
        of_base = () if routing is None else tuple(name for name in names if not routing.is_taught(name))
        of_adapter = tuple(name for name in names or (VISUAL,) if name not in of_base)
        size = phrases_at_once(self._base.model.config, self.device, self.precision)
        for strength, group in ((0.0, of_base), (self._strength, of_adapter)):
            for start in range(0, len(group), size):
                some = group[start : start + size]
                with self._at(strength):
                    with self.autocast():
                        detections = self._detect(some, boxes)
                        options = (threshold, limit, use_presence, ADAPTER if strength else BASE)
                        results = phrase_results(some, detections, self._size_hw, *options)
                    yield Chunk(results, detections)

    @contextmanager
    def _at(self, strength: float) -> Iterator[None]:
        """Sets the strength, and the one before afterwards."""
        before, self.strength = self._strength, strength
        try:
            yield
        finally:
            self.strength = before

    def _detect(self, phrases: tuple[str, ...], boxes: tuple[Tensor, Tensor] | None) -> Detections:
        image_index = torch.zeros(len(phrases), dtype=torch.long, device=self.device)
        repeated = () if boxes is None else (part.expand(len(phrases), *part.shape[1:]) for part in boxes)
        try:
            vision, text = self._vision_features(), self._text_features(phrases)
            detections = self.detector.detect(vision, text, image_index, *repeated, masks=False)
        except _CONFIG_ERRORS as error:
            if self._has_run or isinstance(error, Sam3LoraError) or "memory" in str(error).lower():
                raise
            raise ModelError(
                f"The base model '{self._base.name}' was loaded, but fails on an image: {first_line(error)}",
                "Its config.json and its processor's files contradict each other: copy or download it again",
            ) from error
        self._has_run = True
        return detections

    def _exemplar_boxes(self, exemplars: Exemplars) -> tuple[Tensor, Tensor] | None:
        """Boxes (1, K, 4) cxcywh in [0, 1] and labels (1, K) as the detector takes them; None without any."""
        if len(exemplars.boxes_xyxy) == 0:
            return None
        height, width = self._size_hw
        boxes_xyxy = torch.as_tensor(np.asarray(exemplars.boxes_xyxy), dtype=torch.float32).reshape(-1, 4)
        inside = boxes_xyxy.clamp(min=0).minimum(boxes_xyxy.new_tensor((width, height) * 2))
        empty = ~torch.isfinite(boxes_xyxy).all(1) | (inside[:, 2:] - inside[:, :2] < 1).any(1)
        if empty.any():
            number = int(empty.nonzero()[0]) + 1
            raise Sam3LoraError(
                f"Exemplar box {number} is empty or outside the image of {width} x {height} pixels",
                "Draw it around an object: [left, top, right, bottom] in pixels",
            )
        normalized = normalize(xyxy_to_cxcywh(inside), self._size_hw)
        labels = torch.as_tensor(np.asarray(exemplars.positive), dtype=torch.int64)
        return normalized[None].to(self.device), labels[None].to(self.device)

    def _vision_features(self) -> VisionFeatures:
        key = (self._image_key, self._strength if "vision_encoder" in self._adapted else 0.0)
        vision = self._vision.get(key)
        if vision is None:
            known = self._backbone
            pixels = self._pixels().to(self.device) if known is None else None
            vision = self.detector.encode_images(pixels, backbone=None if known is None else known.to(self.device))
            # Not the position embeddings, which all images share.
            self._vision.put(key, vision, _num_bytes(vision.fpn))
        changed = {"vision_encoder", "geometry_encoder"} & self._adapted
        key = (self._image_key, self._strength if changed else 0.0)
        geometry = self._text_only_geometry.get(key)
        if geometry is None:
            geometry = self.detector.text_only_geometry(vision)
            self._text_only_geometry.put(key, geometry, _num_bytes(geometry))
        return replace(vision, text_only_geometry=geometry)

    def _pixels(self) -> Tensor:
        """The image as the model takes it, (1, 3, S, S); large ones take longer to scale than to encode."""
        if self._pixel_values is None or self._pixel_values[0] != self._image_key:
            assert self._image is not None, "prompts need an image"
            writable = np.require(self._image, requirements=("C", "W"))
            self._pixel_values = self._image_key, to_pixel_values(writable, self.processor.image_processor)[None]
        return self._pixel_values[1]

    def _text_features(self, phrases: tuple[str, ...]) -> TextFeatures:
        tokens = tokenize(self.processor.tokenizer, phrases)
        state = (self._weights, self._strength)
        return self.detector.encode_text(tokens["input_ids"], tokens["attention_mask"], state=state)


def _distinct(phrases: Sequence[str]) -> tuple[str, ...]:
    """The phrases without spaces around them, blank ones and repetitions."""
    return tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))


def _num_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def read_image(image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB; PIL images and files are rotated as their EXIF data says.

    Raises:
        DataError: an array of another shape or type, or a file that cannot be read.
    """
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
            f"Expected one image, but {image} is a folder", "Give a file; the inference page takes whole folders"
        )
    try:
        with open_image(image) as file:
            return np.asarray(to_rgb(ImageOps.exif_transpose(file), image))
    except FileNotFoundError:
        raise DataError(f"Expected an image at {image}, but there is no such file", "Check the path") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise DataError(
            f"The image {image} has more than {limit:.0f} million pixels", "Scale it down, or cut it into tiles"
        ) from None
    except BROKEN as error:
        require_no_heic(Path(image))
        raise DataError(
            f"The file {image} cannot be read as an image ({why_broken(error)})", "Give an intact JPEG or PNG file"
        ) from None
