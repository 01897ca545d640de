"""What a model proposes for an image, made ahead and kept on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from sam3_lora.boxes import pairwise_iou
from sam3_lora.data.images import load_image, read_image
from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import atomic_write, read_file
from sam3_lora.label.decisions import LabelObject, file_of
from sam3_lora.masks import decode_segmentation, encode_rle, mask_to_box_xyxy
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor

MIN_SCORE = 0.1  # of proposals that are kept; shown are those above the tab's threshold
MAX_OBJECTS = 60  # of a phrase
_MAX_BYTES = 64_000_000
_FITS_IOU = 0.4  # of a drawn box and the model's box, from which on they mean the same object


class Proposals(msgspec.Struct, frozen=True):
    """What a model proposes for an image.

    Attributes:
        image: its name.
        size_hw: height and width in pixels.
        objects: best first, by phrase.
        embedding: of the whole image, by which images are compared.
        problem: why the image cannot be read, in one sentence; "" if it can.
    """

    image: str
    size_hw: tuple[int, int]
    objects: tuple[LabelObject, ...] = ()
    embedding: tuple[float, ...] = ()
    problem: str = ""

    @property
    def uncertainty(self) -> float:
        """In [0, 1]: 1 if the model is undecided about an object, 0 if it is sure of all, or finds nothing."""
        return max((1.0 - abs(2 * (one.score or 0.0) - 1) for one in self.objects), default=0.0)

    def similarity(self, other: Proposals) -> float:
        """The cosine of both embeddings, in [-1, 1]; -1 where one has none."""
        if not self.embedding or len(self.embedding) != len(other.embedding):
            return -1.0
        dot = sum(a * b for a, b in zip(self.embedding, other.embedding, strict=True))
        return dot / max(math.hypot(*self.embedding) * math.hypot(*other.embedding), 1e-12)

    def write(self, folder: Path) -> None:
        """Keeps them. Raises DataError if that fails."""
        with explain_os_errors(DataError, f"Proposals cannot be written to {folder}", "Make room on the disk"):
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(file_of(folder, self.image), msgspec.json.encode(self))

    @classmethod
    def read_all(cls, folder: Path, images: set[str]) -> dict[str, Proposals]:
        """All that are kept, by image; files that cannot be read are left aside: they are made again."""
        found: dict[str, Proposals] = {}
        for path in folder.glob("*.json") if folder.is_dir() else ():
            try:
                one = msgspec.json.decode(read_file(path, _MAX_BYTES), type=cls)
            except (OSError, ValueError, RecursionError):
                continue
            if one.image in images and not one.problem:
                found[one.image] = one
        return found


def propose(
    predictor: Predictor, root: Path, image: str, phrases: Sequence[str], record: ImageRecord | None = None
) -> Proposals:
    """Asks the model for the objects of an image. An image that cannot be read becomes a problem, not an error.

    Args:
        predictor: base model, or with an adapter.
        root: the folder that the image's name counts from.
        image: its name.
        phrases: what to find.
        record: its entry where a dataset is reviewed.
    """
    try:
        pixels, size_hw = pixels_of(root, image, record)
    except DataError as error:
        return Proposals(image, (1, 1), problem=str(error))
    predictor.set_image(pixels, size_hw)
    results = predictor.prompt(phrases, MIN_SCORE, MAX_OBJECTS)
    objects = objects_of(postprocess_all(results, PostprocessConfig(MIN_SCORE)))
    return Proposals(image, size_hw, objects, _embedding(predictor))


def pixels_of(root: Path, image: str, record: ImageRecord | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """An image (H, W, 3) uint8, and the height and width in pixels that its objects refer to.

    Those of a dataset refer to the size in its annotation file, turned as they were annotated. Raises DataError.
    """
    if record is not None:
        return load_image(record), (record.height, record.width)
    pixels = read_image(root / image)
    return pixels, (pixels.shape[0], pixels.shape[1])


def propose_again(
    predictor: Predictor,
    pixels: np.ndarray,
    phrase: str,
    unlike: Sequence[tuple[float, float, float, float]],
    size_hw: tuple[int, int] | None = None,
) -> tuple[LabelObject, ...]:
    """Asks again for a phrase, without objects like those in boxes.

    Args:
        predictor: see :func:`propose`.
        pixels: (H, W, 3) uint8.
        phrase: what to find.
        unlike: boxes xyxy in pixels of what is no object of this phrase.
        size_hw: that boxes and objects refer to, if not the image's own.
    """
    predictor.set_image(pixels, size_hw)
    negative = Exemplars(np.array(unlike, np.float64).reshape(-1, 4), np.zeros(len(unlike), bool))
    results = predictor.prompt([phrase], MIN_SCORE, MAX_OBJECTS, exemplars=negative)
    return objects_of(postprocess_all(results, PostprocessConfig(MIN_SCORE)))


def object_in_box(
    predictor: Predictor,
    pixels: np.ndarray,
    phrase: str,
    box_xyxy: tuple[float, float, float, float],
    size_hw: tuple[int, int] | None = None,
) -> LabelObject:
    """The object in a box that a person drew, with the mask that the model has for it.

    The model is asked with the box as an exemplar, with the phrase and without; of its answers the one that fits the
    box best is taken. Where none fits, the object has no mask, only the box.

    Args:
        predictor: see :func:`propose`.
        pixels: (H, W, 3) uint8.
        phrase: what it is.
        box_xyxy: in pixels.
        size_hw: that boxes and objects refer to, if not the image's own.
    """
    predictor.set_image(pixels, size_hw)
    exemplar = Exemplars(np.array([box_xyxy], np.float64), np.ones(1, bool))
    found: list[LabelObject] = []
    for asked, exemplars in (([phrase], exemplar), ([], exemplar), ([phrase], None)):
        results = predictor.prompt(asked, 0.02, MAX_OBJECTS, exemplars=exemplars)
        found += objects_of(postprocess_all(results, PostprocessConfig(0.02)))
    best = max(found, key=lambda one: _box_iou(box_xyxy, one.box_xyxy), default=None)
    if best is None or _box_iou(box_xyxy, best.box_xyxy) < _FITS_IOU:
        return LabelObject(phrase, box_xyxy, source="drawn")
    return LabelObject(phrase, best.box_xyxy, best.rle, source="drawn")


def objects_of(results: dict[str, PhraseResult]) -> tuple[LabelObject, ...]:
    """Predictions as objects with masks, phrase by phrase, best first; those without any pixel are left out.

    Their boxes are those of the masks, as in COCO: the model predicts both, and they need not agree.
    """
    objects: list[LabelObject] = []
    for phrase, result in results.items():
        for score, mask in zip(result.scores, result.each_mask(), strict=True):
            if (box := mask_to_box_xyxy(mask)) is not None:
                x0, y0, x1, y1 = map(float, box)
                objects.append(LabelObject(phrase, (x0, y0, x1, y1), encode_rle(mask), round(float(score), 4)))
    return tuple(objects)


def iou(one: LabelObject, other: LabelObject, size_hw: tuple[int, int]) -> float:
    """How much two objects overlap: by their masks if both have one, else by their boxes."""
    boxes = _box_iou(one.box_xyxy, other.box_xyxy)
    if boxes == 0.0 or one.rle is None or other.rle is None:
        return boxes
    first, second = (decode_segmentation(each.rle, size_hw) for each in (one, other))
    return float((first & second).sum() / max((first | second).sum(), 1))


def _box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    return float(pairwise_iou(torch.tensor([one]), torch.tensor([other])))


def _embedding(predictor: Predictor) -> tuple[float, ...]:
    """The mean of the current image's features over all places, (C,): similar images have similar ones."""
    with torch.inference_mode(), predictor.autocast():
        mean = predictor.vision_features().fpn[-1][0].float().mean(dim=(1, 2))
    return tuple(round(value, 4) for value in mean.tolist())
