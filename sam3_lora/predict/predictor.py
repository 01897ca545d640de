"""Predictor: set an image once, then prompt it many times, with any strength of the adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam3_lora.data.images import read_image
from sam3_lora.data.samples import to_pixel_values, tokenize
from sam3_lora.errors import ModelError, Sam3LoraError, first_line
from sam3_lora.model import kept_text, lora
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.base import LoadedModel, load_base, resolve_device
from sam3_lora.model.concept import adapter_digest
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import autocast, convert_frozen, resolve_precision
from sam3_lora.predict.chunks import Chunk, phrases_at_once
from sam3_lora.predict.current_image import CurrentImage
from sam3_lora.predict.exemplars import Exemplars, exemplar_tensors
from sam3_lora.predict.feature_cache import FeatureCache, num_bytes
from sam3_lora.predict.known_concepts import KnownConcepts
from sam3_lora.predict.phrase_subsets import distinct
from sam3_lora.predict.postprocess import ADAPTER, BASE, PhraseResult, phrase_results
from sam3_lora.predict.references import Reference, check_references, reference_tokens
from sam3_lora.predict.routing import Routing
from sam3_lora.predict.tiled.prompt_tiles import prompt_tiles
from sam3_lora.structures import VISUAL, Detections, TextFeatures, VisionFeatures
from sam3_lora.tiles import Tiling, Window

if TYPE_CHECKING:
    from peft import PeftModel

MAX_STRENGTH = 2.0
CACHED_IMAGE_BYTES = 400 * 10**6  # at full size the features of one image take 112 MB, in bf16 the half
# Raised in the first forward pass when numbers of the model's configuration contradict each other.
_CONFIG_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Predictor:
    """Finds the objects that phrases name in an image, with SAM 3 and, at any strength, an adapter.

    Call :meth:`set_image`, then :meth:`prompt` as often as needed: the image is encoded only once. Features of the
    last images and phrases are cached, separately for each strength of an adapter that changes them: base model and
    adapter share what the adapter leaves alone.

    Attributes:
        detector: the model that prompts run through.
        processor: makes tensors of images and phrases.
        concepts: that prompts may name, as in "<my crack>".
        precision: of forward passes: "fp32", "bf16" or "fp16".
        tiles: how images larger than a tile are cut for :meth:`prompt`; None: not at all.

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
        self.tiles: Tiling | None = None
        self._image: CurrentImage | None = None
        self._pixel_values: tuple[bytes, Tensor] | None = None  # of the image with this key
        self._adapted = lora.adapted_components(base.model)
        self._strength = 0.0 if peft_model is None else 1.0
        self._has_run = False
        self._vision: FeatureCache[VisionFeatures] = FeatureCache(CACHED_IMAGE_BYTES)
        self._geometry: FeatureCache[tuple[Tensor, Tensor]] = FeatureCache(CACHED_IMAGE_BYTES // 1000)
        self._weights = object()  # names those of an adapter of the text encoder as they are now
        self.concepts = KnownConcepts(base.model)

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
        tiles: Tiling | Literal["trained"] | None = "trained",
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
            tiles: how large images are cut; "trained" as in the adapter's training, None not at all.

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
        predictor = cls(loaded, adapted, resolved)
        predictor.concepts.adapter_digest = adapter_digest(None if adapter is None else find_adapter(adapter))
        predictor.tiles = trained.tiles if tiles == "trained" else tiles
        return predictor

    @property
    def base_name(self) -> str:
        """The base model's name: "demo", a folder or a repository."""
        return self._base.name

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that images are resized to."""
        return self._base.image_size

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
        self._geometry.clear()
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
        known = None if "vision_encoder" in self._adapted else backbone
        self._image = CurrentImage.of(read_image(image), size_hw, known)

    def prompt(
        self,
        phrases: Sequence[str],
        threshold: float | Mapping[str, float] = 0.5,
        limit: int | None = None,
        exemplars: Exemplars | Sequence[Reference] | None = None,
        use_presence: bool = True,
        routing: Routing | None = None,
    ) -> dict[str, PhraseResult]:
        """Finds every object that each phrase names in the image set last.

        With :attr:`tiles`, an image larger than a tile is prompted tile by tile, at each prompt anew, and the pieces of
        an object become one (:mod:`sam3_lora.predict.tiled`). Not with exemplars: their boxes are of the whole image.

        Args:
            phrases: noun phrases, such as "pothole"; blank ones and repetitions are ignored. There may be none with
                exemplars: then the boxes alone are the prompt, and the result is named "visual".
            threshold: minimum score of an object, in [0, 1]; or that of each phrase, without spaces around it. Masks
                take most of the time and are made above it only.
            limit: maximum number of objects per phrase, in each tile; None for all.
            exemplars: boxes on this image that apply to every phrase, or on other images, one reference for each.
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
        on_image = isinstance(exemplars, Exemplars) and len(exemplars.boxes_xyxy) > 0
        names = distinct(phrases) or ((VISUAL,) if exemplars is not None else ())
        if self.cuts and self.tiles and not on_image and names:
            return self._prompt_tiles(self.tiles, names, phrases, threshold, limit, exemplars, use_presence, routing)
        for chunk in self.prompt_in_chunks(phrases, threshold, limit, exemplars, use_presence, routing):
            results |= chunk.results
        return {name: results[name] for name in names}

    @property
    def cuts(self) -> bool:
        """Whether the image set last is prompted tile by tile."""
        return self._image is not None and self.tiles is not None and self.tiles.cuts(self._image.size_hw)

    def _prompt_tiles(self, tiling: Tiling, names: Sequence[str], *options: Any) -> dict[str, PhraseResult]:
        """As :meth:`prompt`; names: of the results; options: of :meth:`prompt_in_chunks`."""
        image = self._current_image()

        def prompt(window: Window) -> Iterator[dict[str, PhraseResult]]:
            with self.showing(np.ascontiguousarray(window.crop(image.pixels)), window.size_hw):
                yield from (chunk.results for chunk in self.prompt_in_chunks(*options))

        return prompt_tiles(tiling.windows(image.size_hw), names, prompt)

    @contextmanager
    def showing(
        self, image: np.ndarray | Image.Image | str | Path, size_hw: tuple[int, int] | None = None
    ) -> Iterator[None]:
        """Sets another image, as :meth:`set_image` does, and the one before afterwards."""
        before = self._image
        try:
            self.set_image(image, size_hw)
            yield
        finally:
            self._image = before

    def _current_image(self) -> CurrentImage:
        if self._image is None:
            raise Sam3LoraError("Expected an image before the first prompt", "Call set_image() first")
        return self._image

    @torch.inference_mode()
    def prompt_in_chunks(
        self,
        phrases: Sequence[str],
        threshold: float | Mapping[str, float] = 0.5,
        limit: int | None = None,
        exemplars: Exemplars | Sequence[Reference] | None = None,
        use_presence: bool = True,
        routing: Routing | None = None,
    ) -> Iterator[Chunk]:
        """As :meth:`prompt`, as many phrases at a time as memory allows, with the detections of all their queries.

        The image is prompted whole, whatever :attr:`tiles` says: detections are of one forward pass.

        Routed phrases come in two parts, the base model's first. While the caller has a chunk, the strength is that of
        its answers, for the mask head.
        """
        size_hw, names = self._current_image().size_hw, distinct(phrases)
        references = () if exemplars is None or isinstance(exemplars, Exemplars) else tuple(exemplars)
        boxes = exemplar_tensors(exemplars, size_hw, self.device) if isinstance(exemplars, Exemplars) else None
        if references:
            check_references(references)
        elif not names and boxes is None:
            raise Sam3LoraError("Expected at least one phrase", 'Name what to find, such as "pothole"')
        words, groups = self.concepts.split(names)
        of_base = () if routing is None else tuple(name for name in words if not routing.is_taught(name))
        of_adapter = tuple(name for name in words if name not in of_base) or (() if names else (VISUAL,))
        # Concepts come apart, so that no other answer depends on them by its rounding.
        parts = [(0.0, of_base), (self._strength, of_adapter)]
        parts += [(self._strength if on_adapter else 0.0, group) for on_adapter, group in groups.items()]
        size = phrases_at_once(self._base.model.config, self.device, self.precision)
        for strength, group in parts:
            for start in range(0, len(group), size):
                some = group[start : start + size]
                with self._at(strength):
                    with self.autocast():
                        detections = self._detect(some, boxes, references)
                        options = (threshold, limit, use_presence, ADAPTER if strength else BASE)
                        results = phrase_results(some, detections, size_hw, *options)
                    yield Chunk(results, detections)

    @contextmanager
    def _at(self, strength: float) -> Iterator[None]:
        """Sets the strength, and the one before afterwards."""
        before, self.strength = self._strength, strength
        try:
            yield
        finally:
            self.strength = before

    def _detect(
        self, phrases: tuple[str, ...], boxes: tuple[Tensor, Tensor] | None, references: tuple[Reference, ...]
    ) -> Detections:
        image_index = torch.zeros(len(phrases), dtype=torch.long, device=self.device)
        repeated = () if boxes is None else (part.expand(len(phrases), *part.shape[1:]) for part in boxes)
        try:
            vision, text = self.vision_features(), self.text_features(phrases)
            if references:
                vision = replace(vision, text_only_geometry=self._reference_tokens(references))
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

    def vision_features(self) -> VisionFeatures:
        """Features of the image set last, at the predictor's strength; from the cache where they are in it."""
        image = self._current_image()
        key = (image.key, self._strength if "vision_encoder" in self._adapted else 0.0)
        vision = self._vision.get(key)
        if vision is None:
            known = image.backbone
            pixels = self.pixel_values().to(self.device) if known is None else None
            vision = self.detector.encode_images(pixels, backbone=None if known is None else known.to(self.device))
            # Not the position embeddings, which all images share.
            self._vision.put(key, vision, num_bytes(vision.fpn))
        changed = {"vision_encoder", "geometry_encoder"} & self._adapted
        key = (image.key, self._strength if changed else 0.0)
        geometry = self._geometry.get(key)
        if geometry is None:
            geometry = self.detector.text_only_geometry(vision)
            self._geometry.put(key, geometry, num_bytes(geometry))
        return replace(vision, text_only_geometry=geometry)

    def _reference_tokens(self, references: tuple[Reference, ...]) -> tuple[Tensor, Tensor]:
        changed = {"vision_encoder", "geometry_encoder"} & self._adapted
        return reference_tokens(self, references, self._geometry, self._strength if changed else 0.0)

    def pixel_values(self) -> Tensor:
        """The image set last as the model takes it, (1, 3, S, S); large ones take longer to scale than to encode."""
        image = self._current_image()
        if self._pixel_values is None or self._pixel_values[0] != image.key:
            writable = np.require(image.pixels, requirements=("C", "W"))
            self._pixel_values = image.key, to_pixel_values(writable, self.processor.image_processor)[None]
        return self._pixel_values[1]

    def text_features(self, phrases: tuple[str, ...]) -> TextFeatures:
        """Features of phrases at the predictor's strength; "<my crack>" is a concept, alone or beside words.

        Raises:
            Sam3LoraError: there is no such concept.
        """
        return self.concepts.features(phrases, self._features_of_words)

    def _features_of_words(self, phrases: tuple[str, ...]) -> TextFeatures:
        tokens = tokenize(self.processor.tokenizer, phrases)
        state = (self._weights, self._strength)
        return self.detector.encode_text(tokens["input_ids"], tokens["attention_mask"], state=state)
