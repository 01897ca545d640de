"""What the files beside YOLO's labels say: class names, the folders of the splits, the shape of poses."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3_lora.config import yaml_text
from sam3_lora.data.folders import files_ending, is_image, is_inside, is_text, subfolders
from sam3_lora.data.formats.yolo_lines import MAX_BYTES, Pose, is_label_file, text_of
from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import read_file
from sam3_lora.text import short_repr, type_in_words, valid_text

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_YAML_ENDINGS = (".yaml", ".yml")
_CLASS_FILES = ["classes.txt", "obj.names", "names.txt", "labels.txt", "classes.names", "_darknet.labels"]
_CLASS_FILES += ["class_names.txt", "predefined_classes.txt"]
_NUMBERED = re.compile(r"(\d+)\s*(?:[:,)=]\s*|\.\s+|\s)(\S.*)")
_LISTED = re.compile(r"\d+\s*[:.)=]\s*\D")  # unlike "1 euro" or "1.5 inch" surely no part of a name
_ESCAPED = str.maketrans({"\a": "/a", "\b": "/b", "\t": "/t", "\n": "/n", "\v": "/v", "\f": "/f", "\r": "/r"})
_LISTED_SPLITS = ("train", "val", "valid", "test")
_COUNT = re.compile("[1-9][0-9]{0,3}")
_MAX_FOLDERS = 64  # that are searched for a YAML file
_MAX_FILES = 20  # YAML files of a folder that are read


@dataclass(frozen=True)
class Settings:
    """The content of data.yaml or of what is in its place.

    Attributes:
        content: its values.
        file: None if there is none.
    """

    content: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def pose(self) -> Pose:
        """How poses are recognised, by the shape that data.yaml gives for them."""
        match self.content.get("kpt_shape"):
            case [str(points), str(values)] if _COUNT.fullmatch(points) and _COUNT.fullmatch(values):
                return Pose(4 + int(points) * int(values))
        return Pose()

    @property
    def has_polygons(self) -> bool:
        """Whether data.yaml says that lines are polygons, not poses."""
        return self.content.get("task") in ("segment", "obb")


def is_settings(path: Path) -> bool:
    """Whether a file may be YOLO's data.yaml, by its ending."""
    return path.suffix.lower() in _YAML_ENDINGS and path.is_file()


def find_settings(root: Path, chosen: Path | None = None) -> Settings:
    """YOLO's settings in a dataset: data.yaml; or another YAML file with class names, also in a folder of the dataset
    such as ``config``; or Darknet's obj.data.

    Args:
        root: the dataset's folder.
        chosen: the file to take.

    Raises:
        DataError: the file cannot be read, or there are several with other names than data.yaml that differ.
    """
    usual = chosen or next((root / name for name in YAML_NAMES if (root / name).is_file()), None)
    if usual is not None:
        return _with_lists(Settings(_content(usual), usual), root) if is_inside(usual, root) else Settings()
    for folders in ([root], subfolders(root)[:_MAX_FOLDERS]):
        paths = [path for folder in folders for path in _files(folder, root, *_YAML_ENDINGS)]
        found = [Settings(content, path) for path in paths if (content := _with_names(path))]
        if found and any(one.content["names"] != found[0].content["names"] for one in found):
            listed = ", ".join(str(one.file.relative_to(root)) for one in found if one.file)
            raise DataError(
                f"Expected one YAML file with class names in {root}, but {listed} differ", "Open the right one of them"
            )
        if found:
            return _with_lists(found[0], root)
    return _darknet(root) or _with_lists(Settings(), root)


def has_settings(root: Path) -> bool:
    """Whether a folder has YOLO's data.yaml, or something in its place."""
    return find_settings(root).file is not None


def plain_path(named: str) -> str:
    """A path in data.yaml with slashes: Windows' backslashes, also where YAML took one with a letter for a sign."""
    return named.translate(_ESCAPED).replace("\\", "/")


def _files(folder: Path, root: Path, *endings: str) -> list[Path]:
    """The first files in a folder with one of these endings that can be settings; none if it cannot be read."""
    with suppress(DataError):
        return [path for path in files_ending(folder, root, *endings)[:_MAX_FILES] if _is_small(path, root)]
    return []


def _is_small(path: Path, root: Path) -> bool:
    """Whether a path is a file of the dataset, and no larger than what is written by hand."""
    return os.path.isfile(path) and is_inside(path, root) and path.stat().st_size <= MAX_BYTES


def _with_names(path: Path) -> dict[str, Any]:
    """The content of a YAML file if it gives class names, else nothing: it may belong to anything."""
    try:
        if b"names" not in read_file(path, yaml_text.MAX_BYTES):
            return {}
    except OSError:
        return {}
    content = _content(path)
    return content if isinstance(content.get("names"), (list, dict, str)) else {}


def _content(path: Path) -> dict[str, Any]:
    """The content of a YAML file, as far as it is an object."""
    text, where = "", ""
    for text in _readings(path):
        try:
            content = yaml_text.load(text, as_text=True)
            break
        except yaml_text.YamlError as error:
            where = str(error)
    else:
        raise DataError(
            f"Expected YAML in {path}, but it cannot be read: {where}", "Correct it, or export the dataset again"
        )
    content = content if isinstance(content, dict) else {}
    if "\ufffd" in text and "\ufffd" in str(content.get("names")):
        raise no_utf8(path)
    return content


def _text(path: Path) -> str:
    """As :func:`text_of`; raises DataError if the file cannot be read."""
    with explain_os_errors(DataError, f"{path} cannot be read", "Correct its permissions, or export the dataset again"):
        return text_of(path)


def _readings(path: Path) -> list[str]:
    """The text of a file as it is and with slashes instead of backslashes, which YAML takes for signs of its own.

    What is not UTF-8 becomes U+FFFD: it may be in a comment.
    """
    text = _text(path)
    return [text, text.replace("\\", "/")] if "\\" in text else [text]


def no_utf8(path: Path, what: str = "class names") -> DataError:
    """The error for a file with other text than UTF-8, which shows how it may be meant."""
    line = next(line for line in read_file(path, MAX_BYTES).splitlines() if "\ufffd" in line.decode("utf-8", "replace"))
    readings = [f"'{line.decode(name).strip()[:60]}' as {name}" for name in ("gbk", "cp1252") if _decodes(line, name)]
    reads = f": a line of it reads {' or '.join(readings)}" if readings else ""
    return DataError(
        f"The {what} in {path} are not saved as UTF-8 but as Windows saves them (GBK, cp1252, ...){reads}",
        "Save the file as UTF-8 (in Notepad: Save as, encoding UTF-8)",
    )


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        return line.decode(encoding).isprintable()
    except ValueError:
        return False


def _darknet(root: Path) -> Settings | None:
    """The settings in obj.data, lines of ``key = value``, as Darknet and CVAT's YOLO 1.1 have them."""
    for path in _files(root, root, ".data"):
        pairs = [line.split("=", 1) for line in _text(path).splitlines() if "=" in line]
        content = {key.strip().lower(): value.strip() for key, value in pairs}
        if "names" in content or "train" in content:
            return Settings(content, path)
    return None


def _with_lists(settings: Settings, root: Path) -> Settings:
    """The settings with the lists of images of the splits (``train.txt``, or ``autosplit_train.txt`` as Ultralytics
    writes it), where they name no split."""
    found: dict[str, str] = {}
    if any(key in settings.content for key in _LISTED_SPLITS):
        return settings
    for split, name in ((split, f"{start}{split}.txt") for start in ("", "autosplit_") for split in _LISTED_SPLITS):
        path = root / name
        if _is_small(path, root):
            first = next((line.strip() for line in _text(path).splitlines() if line.strip()), "")
            if is_image(first):
                found.setdefault(split, name)
    return Settings({**found, **settings.content}, settings.file)


def class_files(root: Path, base: Path, settings: Settings) -> list[Path]:
    """Where class names may be besides data.yaml, one per line.

    Args:
        root: the dataset's folder.
        base: the folder of a split's labels.
        settings: of the dataset, which may name the file.
    """
    inner = [part for part in plain_path(_name(settings)).split("/") if part not in ("", ".", "..")]
    places = [root.joinpath(*inner[place:]) for place in range(len(inner))]
    folders = dict.fromkeys((root, base.parent, base))
    return [*places, *(folder / name for folder in folders for name in _CLASS_FILES)]


def _name(settings: Settings) -> str:
    """The value of 'names' if it is text: a file, or the names themselves; otherwise nothing."""
    names = settings.content.get("names")
    return names if isinstance(names, str) and "\0" not in names and is_text(names) else ""


def class_names(settings: Settings, root: Path, base: Path) -> dict[int, str]:
    """Names by class number, as data.yaml or a text file gives them, if one does.

    Args:
        settings: of the dataset.
        root: the dataset's folder.
        base: the folder of a split's labels.

    Raises:
        DataError: a name is no text, or not saved as UTF-8.
    """
    if found := _from_yaml(settings.content.get("names"), settings.file):
        return found
    for path in class_files(root, base, settings):
        if _is_small(path, root) and not is_label_file(path) and (found := _from_lines(path)):
            return found
    name = _name(settings)
    if os.path.splitext(name)[1] or "/" in name:
        return {}
    return {number: part.strip() for number, part in enumerate(name.split(",")) if part.strip()}


def _from_yaml(names: Any, file: Path | None) -> dict[int, str]:
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    found = {}
    for key, name in pairs:
        if name is None:
            raise DataError(
                f"Expected 'names' in {file} to give each class a name, but YAML takes that of {short_repr(key)} for "
                "nothing",
                "Write it in quotes, such as 'null'",
            )
        if not isinstance(name, str) or not isinstance(key, (str, int)):
            raise DataError(
                f"Expected 'names' in {file} to give each class a name, but one is "
                f"{type_in_words(name)} ({short_repr(key)})",
                "Write them as [crack, pothole] or as {0: crack, 1: pothole}",
            )
        number = str(key)
        if number.isascii() and number.isdigit() and len(number) < 10:
            found[int(number)] = name[:1000]
    return found


def _from_lines(path: Path) -> dict[int, str]:
    """The names in a text file, one per line, the first of class 0; or with their numbers before them."""
    text = _text(path)
    if "\ufffd" in text:
        raise no_utf8(path)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines()) if line.strip()]
    numbered = [match for _, line in lines if (match := _NUMBERED.fullmatch(line))]
    numbers = [int(match[1]) for match in numbered]
    if numbers == list(range(1, len(lines) + 1)) and all(_LISTED.match(line) for _, line in lines):
        raise DataError(
            f"The class names in {path} are numbered from 1, but YOLO's first class is 0: which names are meant is "
            "unknown",
            "Number them from 0, or write the names alone, that of class 0 in the first line",
        )
    if numbers == list(range(len(lines))):
        return {number: valid_text(match[2])[:1000] for number, match in zip(numbers, numbered, strict=True)}
    return {number: valid_text(line)[:1000] for number, line in lines}
