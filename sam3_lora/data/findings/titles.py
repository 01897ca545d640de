"""The titles of findings, on pages and in reports."""

from __future__ import annotations

_TITLES = {  # where the kind itself does not say it in English
    "annotations-wrong-key": "Annotations under the wrong key",
    "masks-wrong-key": "Masks under the wrong key",
    "boxes-outside-image": "Boxes outside the image",
    "box-mask-mismatch": "Boxes that do not fit their masks",
    "image-elsewhere": "Images found elsewhere",
    "label-line-odd": "Lines of label files not understood",
    "labels-by-similar-name": "Labels matched by similar names",
    "leaked-images": "Identical images in two splits",
    "leaked-similar": "Similar images in two splits",
    "link-outside-dataset": "Links to outside the dataset",
    "object-twice": "Objects annotated twice",
    "pair-repeated": "Repeated pairs of image and phrase",
    "path-outside-dataset": "Paths outside the dataset",
    "phrase-code": "Phrases that are codes",
    "phrase-position": "Phrases with a position",
    "phrase-plural": "Phrases in the plural",
    "size-mismatch": "Image sizes that differ from the files",
}
_WORDS = {"bad": "invalid", "english": "English", "heic": "HEIC", "cmyk": "CMYK", "utf": "UTF"}


def title_of(kind: str) -> str:
    """The title of a kind of finding: "boxes-outside-image" -> "Boxes outside the image"."""
    title = _TITLES.get(kind) or " ".join(_WORDS.get(word, word) for word in kind.split("-"))
    return title[0].upper() + title[1:]
