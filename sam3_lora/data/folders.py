"""Where a dataset's files are: its annotation files, and the images that these name."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from pathlib import Path

from sam3_lora.errors import DataError

ANNOTATION_FILE = "_annotations.coco.json"
_USUAL_ORDER = ("train", "valid", "val", "validation", "test")


def annotation_files(root: Path) -> dict[str, Path]:
    """The annotation file of each split, by the split's name.

    Every folder in `root` that holds ``_annotations.coco.json`` is a split of the folder's name
    (Roboflow's layout). Without any, `root` itself is the split "train" if it holds such a file or
    exactly one other .json file.

    Raises:
        DataError: there is no such folder, or no annotation file in it.
    """
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries)
    except FileNotFoundError:
        raise DataError(f"Expected a dataset's folder at {root}, but there is nothing", "Correct the path") from None
    except NotADirectoryError:
        raise DataError(
            f"Expected a dataset's folder, but {root} is a file", "Give the folder that holds the splits' folders"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise DataError(f"The folder {root} cannot be read: {reason}", "Correct the path") from None
    splits = [name for name in names if (root / name / ANNOTATION_FILE).is_file()]
    if splits:
        splits.sort(key=lambda name: _USUAL_ORDER.index(name) if name in _USUAL_ORDER else len(_USUAL_ORDER))
        return {name: root / name / ANNOTATION_FILE for name in splits}
    return {"train": _single_file(root, names)}


def _single_file(root: Path, names: list[str]) -> Path:
    if ANNOTATION_FILE in names:
        return root / ANNOTATION_FILE
    candidates = [name for name in names if name.lower().endswith(".json")]
    if len(candidates) == 1:
        return root / candidates[0]
    wanted = f"Expected train/{ANNOTATION_FILE} (and the like for other splits) in {root}"
    if candidates:
        listed = ", ".join(candidates[:3]) + (", ..." if len(candidates) > 3 else "")
        raise DataError(
            f"{wanted}, but found {len(candidates)} other JSON files ({listed})",
            f"Put each split's file and images into a folder of their own and name the file {ANNOTATION_FILE}",
        )
    deeper = next((path for path in root.glob(f"*/*/{ANNOTATION_FILE}") if path.is_file()), None)
    if deeper is not None:
        raise DataError(f"{wanted}, but its splits lie one folder deeper", f"Open {deeper.parent.parent}")
    raise DataError(
        f"{wanted}, but there is no annotation file",
        "Export the dataset in the format COCO (in Roboflow: COCO Segmentation) and give the unpacked folder",
    )


class ImageFiles:
    """Finds the images that one annotation file names, reading each folder once and no file at all."""

    def __init__(self, root: Path, json_path: Path) -> None:
        self._folder = json_path.parent
        self._depth = len(self._folder.relative_to(root).parts)
        self._listings: dict[str, frozenset[str]] = {}
        self._beside = self._names(".")
        self._inside = self._names("images")

    def find(self, file_name: str) -> tuple[Path, bool] | None:
        """The path of an image and whether a file is there; None if the name leads out of the dataset's folder.

        It is looked for beside the JSON file, then in ``images/``. Nothing outside is ever looked at.
        """
        if file_name in self._beside:
            return self._folder / file_name, True
        if file_name in self._inside:
            return self._folder / "images" / file_name, True
        name = posixpath.normpath(file_name.replace("\\", "/"))
        if name.startswith("/") or name[1:2] == ":" or name.split("/").count("..") > self._depth:
            return None
        for spelling in dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))):
            for folder in ("", "images"):
                parent, _, base = posixpath.normpath(posixpath.join(folder, spelling)).rpartition("/")
                if base in self._names(parent or "."):
                    return self._folder / parent / base, True
        return self._folder / name, False

    def _names(self, folder: str) -> frozenset[str]:
        """The files in a folder, relative to the JSON file's; nothing where there is no such folder."""
        if folder not in self._listings:
            try:
                with os.scandir(self._folder / folder) as entries:
                    self._listings[folder] = frozenset(entry.name for entry in entries if not entry.is_dir())
            except (OSError, ValueError):  # ValueError: a name that no file system can hold
                self._listings[folder] = frozenset()
        return self._listings[folder]
