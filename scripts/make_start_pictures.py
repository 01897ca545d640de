"""Makes the two pictures of the start page's slider: an image of the demo as it is, and with what is found in it.

    python -m scripts.make_start_pictures

With the demo's adapter (assets/demo/adapter) what is drawn are its predictions; without it, the annotations.
pictures.json beside them says which, so that the page never takes one for the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from PIL import Image

from sam3_lora.config import DEMO
from sam3_lora.data.dataset import ImageRecord, load_image, open_dataset
from sam3_lora.draw import Color, DrawObject, category_colors, overlay
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor
from sam3_lora.ui import adapters
from sam3_lora.ui.start.pictures import AFTER, BEFORE, FACTS, FOLDER

SPLIT, IMAGE = "valid", 9
SIDE = 900  # pixels: about twice what is shown
QUALITY = 82


def main() -> None:
    dataset = open_dataset(DEMO)
    record = dataset.splits[SPLIT].images[IMAGE]
    image = load_image(record)
    has_adapter = adapters.has_demo_adapter()
    colors = category_colors(dataset.categories)  # of the demo, each category is its own phrase
    objects = predicted(image, colors) if has_adapter else annotated(record, colors)
    before = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    after = overlay(before, objects, masks=True, boxes=False, labels=True, opacity=0.5)
    FOLDER.mkdir(exist_ok=True)
    for picture, name in ((before, BEFORE), (after, AFTER)):
        Image.fromarray(picture).save(FOLDER / name, quality=QUALITY)
    facts = {
        "image": record.file_name,
        "objects": sorted(each.label for each in objects),
        "predicted": has_adapter,
        "base_found": len(found_by_base(image, list(colors))),
    }
    (FOLDER / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(facts)


def annotated(record: ImageRecord, colors: Mapping[str, Color]) -> list[DrawObject]:
    """The annotations of an image, at the size of the pictures."""
    return [
        DrawObject(each.category, colors[each.category], enlarged(decode_segmentation(each.segmentation, _hw(record))))
        for each in record.annotations
    ]


def predicted(image: np.ndarray, colors: Mapping[str, Color]) -> list[DrawObject]:
    """What the demo's adapter finds, at the size of the pictures."""
    predictor = Predictor.load(DEMO, adapters.DEMO_FOLDER)
    predictor.set_image(image)
    return [
        DrawObject(phrase, colors[phrase], enlarged(mask), score=float(score))
        for phrase, result in postprocess_all(predictor.prompt(list(colors)), PostprocessConfig()).items()
        for mask, score in zip(np.asarray(result.masks), np.asarray(result.scores), strict=True)
    ]


def found_by_base(image: np.ndarray, phrases: list[str]) -> list[str]:
    """The phrases for which the base model alone finds something."""
    predictor = Predictor.load(DEMO)
    predictor.set_image(image)
    return [phrase for phrase, result in predictor.prompt(phrases).items() if len(result.scores)]


def enlarged(mask: np.ndarray) -> np.ndarray:
    """A mask bool (H, W) at the size of the pictures, with smooth edges."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) > 127


def _hw(record: ImageRecord) -> tuple[int, int]:
    return record.height, record.width


if __name__ == "__main__":
    main()
