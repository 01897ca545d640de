"""Pairs the images of a YOLO dataset with their label files, by path and, where that fails, by similar names."""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from sam3_lora.data.folders import IMAGE_SUFFIXES, is_inside, is_litter
from sam3_lora.data.formats.unsupported import has_foreign_objects
from sam3_lora.data.formats.yolo_lines import is_label_file

_HASH = re.compile(r"^[0-9a-f]{8}[-_]+(?=.)")  # Label Studio puts it before the name of an uploaded file
_ROBOFLOW = re.compile(r"_(?:jpe?g|png|bmp|webp|tiff?)\.rf\.\w+$")
_ROLE = re.compile(r"^(?:labels?|gt|ann(?:otations?)?|masks?)[-_. ]+|[-_. ]+(?:labels?|gt|ann(?:otations?)?|masks?)$")
_ALIKE = 0.75  # difflib's ratio from which two names without digits are alike
_COMPARED = 200  # names that are compared by their letters


@dataclass
class Pairs:
    """What belongs together in a folder of images and its folder of labels.

    Attributes:
        images: all, sorted.
        label_of: image -> label file.
        loose: the images among these whose label file has only a similar name, and no other image or label file has.
        shared: images whose label file is another image's, too: `a.jpg` and `a.png` beside `a.txt`.
        near: image without a label file -> label file without an image, where the names hint that they belong together;
            or its annotations in another format, such as Pascal VOC's XML.
        left: label files of no image.
        second: label files of images that have another one, with other content.
        folders: all that were listed.
    """

    images: list[Path]
    label_of: dict[Path, Path] = field(default_factory=dict)
    loose: set[Path] = field(default_factory=set)
    shared: set[Path] = field(default_factory=set)
    near: dict[Path, Path] = field(default_factory=dict)
    left: list[Path] = field(default_factory=list)
    second: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and the folders in it, sorted; litter is left out, links to folders not followed."""
    return _files(folder)[0]


def texts_in(folder: Path) -> list[Path]:
    """The text files in a folder and the folders in it, sorted."""
    return _files(folder)[1]


def pair(images: Path, labels: Path, root: Path) -> Pairs:
    """Pairs all images in a folder with label files there and in the folder of labels.

    An image's label file has its path with another ending, ``.txt`` instead of or after its own; those in `labels` come
    first. An image without one gets the one whose name differs only in letter case, percent-encoding, Unicode form,
    spaces, folder or Label Studio's prefix, if no other image and no other label file could be meant.

    Args:
        images: a folder of images, with subfolders.
        labels: the folder of their labels; may be the same.
        root: the dataset's folder: files behind links out of it are not read.
    """
    pictures, beside, folders = _files(images)
    texts = list(beside)
    if labels != images:
        _, texts, more = _files(labels)
        folders, texts = folders + more, texts + [path for path in beside if path not in set(texts)]
    pairs = Pairs(pictures, folders=folders)
    places, there = dict.fromkeys((labels, images)), set(texts)
    for picture in pictures:
        inner = picture.relative_to(images)
        names = (f"{inner}.txt", str(inner.with_suffix(".txt")))
        usual = next((path for place in places for name in names if (path := place / name) in there), None)
        if usual is not None and (labels == images or usual.is_relative_to(labels) or _may_be_labels(usual, root)):
            pairs.label_of[picture] = usual
    uses = Counter(pairs.label_of.values())
    pairs.shared = {picture for picture, path in pairs.label_of.items() if uses[path] > 1}
    unused = [path for path in texts if path not in uses and is_inside(path, root) and is_label_file(path)]
    if unused:
        _pair_by_name(pairs, _Names(images, labels), unused, root)
    for picture in (path for path in pictures if path not in pairs.label_of and path not in pairs.near):
        inner = picture.relative_to(images)
        foreign = ((place / inner).with_suffix(ending) for place in places for ending in (".xml", ".json"))
        if found := next((path for path in foreign if has_foreign_objects(path, root)), None):
            pairs.near[picture] = found
    return pairs


def labels_elsewhere(pairs: Pairs, left: Iterable[Path]) -> None:
    """Adds to `near` the label files without an image of another split that have the names of images here."""
    by_name = {os.path.splitext(path.name)[0]: path for path in left}
    for picture in pairs.images:
        if picture not in pairs.label_of and (path := by_name.get(os.path.splitext(picture.name)[0])):
            pairs.near.setdefault(picture, path)


def _files(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """(images, text files, folders) in a folder and those in it, without litter and pipes, which block for ever."""
    images: list[Path] = []
    texts: list[Path] = []
    folders: list[Path] = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not is_litter(name)]
        folders.append(Path(place))
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if (ending == ".txt" or ending in IMAGE_SUFFIXES) and not is_litter(name):
                (texts if ending == ".txt" else images).append(Path(place, name))
    images, texts = (sorted(path for path in paths if path.is_file()) for paths in (images, texts))
    return images, texts, folders


def _may_be_labels(path: Path, root: Path) -> bool:
    """Whether a text file beside an image, whose labels are elsewhere, is no caption for example."""
    return is_inside(path, root) and (path.stat().st_size == 0 or is_label_file(path))


class _Names:
    """What is compared of the names of images and label files; see :func:`pair`."""

    def __init__(self, images: Path, labels: Path) -> None:
        self._roots = (labels, images)
        self.pairing: tuple[Callable[[Path], str], ...] = (self.path, self.base, self.tool)
        self.hinting: tuple[Callable[[Path], str], ...] = (*self.pairing, self.core, self.numbers)

    def path(self, path: Path) -> str:
        """The path without endings, in one spelling."""
        root = next(root for root in self._roots if path.is_relative_to(root))
        stem = os.path.splitext(path.relative_to(root).as_posix())[0]
        if path.suffix.lower() == ".txt" and os.path.splitext(stem)[1].lower() in IMAGE_SUFFIXES:
            stem = os.path.splitext(stem)[0]
        for _ in range(2):  # some tools encode twice
            stem = unquote(stem)
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())

    def base(self, path: Path) -> str:
        return self.path(path).rpartition("/")[2]

    def tool(self, path: Path) -> str:
        """The name without Label Studio's prefix and with one sign for all that tools replace in names."""
        return re.sub(r"[\W_]+", "_", _HASH.sub("", self.base(path))).strip("_")

    def core(self, path: Path) -> str:
        """Letters and digits without leading zeros, Roboflow's ending and words such as "label"."""
        stem = _ROLE.sub("", _ROBOFLOW.sub("", self.base(path)))
        return re.sub(r"[\W_]+", "", re.sub(r"(?<!\d)0+(?=\d)", "", _HASH.sub("", stem)))

    def numbers(self, path: Path) -> str:
        return " ".join(str(int(digits)) for digits in re.findall(r"[0-9]{1,18}", self.base(path)))


def _pair_by_name(pairs: Pairs, names: _Names, unused: list[Path], root: Path) -> None:
    """Fills `pairs` with what the names of images without a label file and of `unused` label files say."""
    pictures = pairs.images
    every = [*pairs.label_of.values(), *unused]
    for key in names.pairing:
        free = [picture for picture in pictures if picture not in pairs.label_of]
        if not free or not unused:
            break
        of_images, of_labels = Counter(map(key, pictures)), Counter(map(key, dict.fromkeys(every)))
        by_name = {key(path): path for path in unused}
        for picture in free:
            name = key(picture)
            if name in by_name and of_images[name] == of_labels[name] == 1:
                pairs.label_of[picture] = by_name[name]
                pairs.loose.add(picture)
        used = set(pairs.label_of.values())
        unused = [path for path in unused if path not in used]
    free = [picture for picture in pictures if picture not in pairs.label_of]
    paired = {names.path(picture): path for picture, path in pairs.label_of.items()}
    seconds = {path for path in unused if (other := paired.get(names.path(path))) and not _same(path, other, root)}
    pairs.second = sorted(seconds)
    pairs.left = [path for path in unused if names.path(path) not in paired]
    candidates = [path for path in unused if path not in seconds]
    if free and candidates:
        pairs.near = _near(free, candidates, names)
        if not pairs.label_of:  # not one image has a label file: these must be theirs
            rest = [path for path in candidates if path not in set(pairs.near.values())] or candidates
            for place, picture in enumerate(path for path in free if path not in pairs.near):
                pairs.near[picture] = rest[min(place, len(rest) - 1)]


def _same(one: Path, other: Path, root: Path) -> bool:
    with suppress(OSError):
        return is_inside(other, root) and filecmp.cmp(one, other, shallow=False)
    return False


def _near(free: Iterable[Path], left: Iterable[Path], names: _Names) -> dict[Path, Path]:
    """image -> label file, each without the other, where the names are alike in some way."""
    near: dict[Path, Path] = {}
    for key in names.hinting:
        by_name = {name: path for path in left if (name := key(path))}
        for picture in free:
            if picture not in near and (path := by_name.get(key(picture))):
                near[picture] = path
    letters = {names.base(path): path for path in left if not names.numbers(path)}
    words = [path for path in free if path not in near and not names.numbers(path)]
    for picture in words[:_COMPARED]:
        alike = get_close_matches(names.base(picture), list(letters)[:_COMPARED], 1, _ALIKE)
        if alike:
            near[picture] = letters[alike[0]]
    return near
