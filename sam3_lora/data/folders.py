"""Lists folders and finds files in a dataset's folder, and nothing outside it."""

from __future__ import annotations

import contextlib
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.errors import DataError
from sam3_lora.files import open_regular, user_path
from sam3_lora.text import valid_text

ANNOTATION_FILE = "_annotations.coco.json"
NO_TEXT = "its name is not valid text; rename it"
# Of all pictures that Pillow opens by itself, and of HEIC, which it opens with pillow-heif.
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif"))
IMAGE_SUFFIXES |= {".tif", ".tiff", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"}
IMAGE_SUFFIXES |= {".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga"}
IMAGE_SUFFIXES |= {".icb", ".vda", ".vst", ".sgi", ".bw", ".rgb", ".rgba", ".ras", ".pcx", ".dcx", ".psd", ".qoi"}
IMAGE_SUFFIXES |= {".ico", ".cur", ".icns", ".xbm", ".xpm", ".dds", ".ftc", ".ftu", ".blp", ".gbr", ".im", ".msp"}
IMAGE_SUFFIXES |= {".pxr", ".pcd", ".fit", ".fits", ".fli", ".flc"}
MASK_FOLDERS = ("masks", "mask", "segmentation", "segmentations", "segmentationclass", "segmentationobject")
MAX_SEARCHED = 1_000_000  # files: in a larger folder, which may be a whole disk, no image is searched for
_LITTER = frozenset(("__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found"))
_LITTER |= {"thumbs.db", "desktop.ini", "system volume information"}


def dataset_folder(path: str | Path) -> Path:
    """The folder of a dataset: the demo's, or the path as typed."""
    return ASSETS / "demo" / "dataset" if str(path) == DEMO else user_path(path)


def is_image(name: str) -> bool:
    """Whether a file is an image, by the ending of its name."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_litter(name: str) -> bool:
    """Whether a file or folder is one that a system leaves behind: hidden ones, ``__MACOSX``, ``Thumbs.db``, ..."""
    return name.startswith(".") or name.casefold() in _LITTER


def listing(root: Path) -> list[str]:
    """The names of files and folders in a folder, sorted; without litter, pipes and the like, which would block.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    with explain_unreadable(root), os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if _is_file(entry) or is_folder(entry))
        return [name for name in names if not is_litter(name)]


@contextlib.contextmanager
def explain_unreadable(root: Path) -> Iterator[None]:
    """Says in words why the folder that the body lists cannot be: raises DataError for what the system raises."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"There is no folder {root}", "Correct the path") from None
    except NotADirectoryError:
        raise DataError(f"Expected a folder, but {root} is a file", "Give the folder that it is in") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a path"
        raise DataError(f"The folder {root} cannot be read: {reason}", "Correct the path") from None


def is_text(name: str) -> bool:
    """Whether a name on the disk is valid text: it may be any bytes, which JSON cannot hold."""
    return valid_text(name) == name


def require_text(path: Path) -> None:
    """Raises DataError for a path that is not valid text."""
    if not is_text(str(path)):
        raise DataError(
            f"Expected names that are valid text, but that of {valid_text(str(path))} is not",
            "Rename the folder or file",
        )


def subfolders(root: Path) -> list[Path]:
    """The folders in a folder, sorted, without litter; none if it cannot be read."""
    try:
        with os.scandir(root) as entries:
            return sorted(root / entry.name for entry in entries if is_folder(entry) and not is_litter(entry.name))
    except (OSError, ValueError):  # ValueError: a path that no file system can hold
        return []


def files_ending(folder: Path, root: Path, *endings: str) -> list[Path]:
    """The files in a folder with one of these endings, in upper or lower case; none if it is outside the dataset.

    Args:
        folder: of the files.
        root: the dataset's folder.
        endings: in lower case.

    Raises:
        DataError: the folder cannot be read.
    """
    names = listing(folder) if is_inside(folder, root) else []
    return [folder / name for name in names if name.lower().endswith(endings)]


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder itself; not if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return any(is_image(entry.name) and not is_litter(entry.name) for entry in entries)
    except (OSError, ValueError):  # ValueError: a path that no file system can hold
        return False


def beginning(path: Path, root: Path, size: int) -> bytes:
    """The first bytes of a file; none if it is outside the dataset, cannot be read, or is a pipe or the like.

    Args:
        path: of the file.
        root: the dataset's folder.
        size: bytes.
    """
    with contextlib.suppress(OSError, ValueError):
        if is_inside(path, root):
            with open_regular(path) as file:
                return file.read(size)
    return b""


class ImageFiles:
    """Finds the images that one annotation file names, reading each folder once and no file at all.

    Args:
        root: the dataset's folder. Nothing outside is read, not even through links.
        base: the folder that file names count from.
        folders: where images may be; none: in `base` and in ``images/`` there.
        outside: a further folder that the user named, which may be anywhere.

    Attributes:
        before_listing: called with the path of a folder before it is listed, but not of those listed already.
    """

    def __init__(self, root: Path, base: Path, folders: Sequence[Path] = (), outside: Path | None = None) -> None:
        self.before_listing: Callable[[str], None] = lambda path: None
        self._base = base
        self._roots = (root, outside.absolute()) if outside else (root,)
        self._allowed = tuple(map(os.path.realpath, self._roots))
        places = [*folders] or [base, base / "images"]
        self._places = [os.path.relpath(place, base) for place in places]
        if outside:
            self._places += [str(outside.absolute()), str(outside.absolute() / base.name)]
        self._depth = len(base.relative_to(root).parts)
        self._listings: dict[str, frozenset[str]] = {}
        self._links: set[str] = set()  # paths that are, or are behind, a link out of the allowed folders
        for place in self._places:
            self._names(place)

    @property
    def listed(self) -> list[str]:
        """The folders that were listed so far."""
        return [os.path.join(self._base, folder) for folder in self._listings]

    def find(self, file_name: str) -> tuple[str, bool] | None:
        """The path of an image, relative to `base`, and whether the file exists.

        None if the name leads outside the dataset's folder; a path that ends in "/" if a link does.
        """
        for place in self._places:
            if file_name in self._listings[place]:
                return self._linked(place, file_name) or (_joined(place, file_name), True)
        name = posixpath.normpath(file_name.replace("\\", "/"))
        if name.startswith("/") or name[1:2] == ":" or name.split("/").count("..") > self._depth:
            return None
        for spelling in dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))):
            for place in self._places:
                parent, _, base = spelling.rpartition("/")
                folder = os.path.normpath(os.path.join(place, parent)) if parent else place
                if base in self._names(folder):
                    return self._linked(folder, base) or (_joined(folder, base), True)
                if folder in self._links:
                    return _joined(folder, base) + "/", False
        return name, False

    def everywhere(self) -> Iterator[str]:
        """The paths of all files in the dataset's folder and the further one, relative to `base`; none if too many."""
        found: list[str] = []
        for root in self._roots:
            for place, folders, _ in os.walk(root):
                folders[:] = sorted(name for name in folders if not is_litter(name) and is_text(name))
                folder = os.path.relpath(place, self._base) if root == self._roots[0] else place
                paths = [_joined(folder, name) for name in sorted(self._names(folder)) if not is_litter(name)]
                found += [path for path in paths if path not in self._links]
                if len(found) > MAX_SEARCHED:
                    return
        yield from dict.fromkeys(found)

    def _linked(self, folder: str, name: str) -> tuple[str, bool] | None:
        path = _joined(folder, name)
        return (path + "/", False) if path in self._links else None

    def _names(self, folder: str) -> frozenset[str]:
        """The files in a folder, relative to `base`; none if there is no such folder, or it is outside the dataset."""
        if folder not in self._listings:
            self._listings[folder] = frozenset()
            with contextlib.suppress(OSError, ValueError):  # ValueError: a name that no file system can hold
                path = os.path.join(self._base, folder)
                self.before_listing(path)
                if not self._is_inside(path):
                    if os.path.isdir(path):
                        self._links.add(folder)
                    return frozenset()
                names = []
                with os.scandir(path) as entries:
                    for entry in entries:
                        if _is_file(entry) and is_text(entry.name):
                            names.append(entry.name)
                        if entry.is_symlink() and not self._is_inside(entry.path):
                            self._links.add(_joined(folder, entry.name))
                self._listings[folder] = frozenset(names)
        return self._listings[folder]

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return any(real == allowed or real.startswith(allowed.rstrip(os.sep) + os.sep) for allowed in self._allowed)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, with all links followed, is in the dataset's folder."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return False


def require_inside(path: Path, root: Path) -> Path:
    """The path itself; raises DataError if a link in it leads out of the dataset's folder."""
    if not is_inside(path, root):
        raise DataError(
            f"{path} is behind a link that leads outside the dataset's folder, so it is not opened",
            "Put the files themselves there, or open the folder that the link leads to",
        )
    return path


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file or a link to one: no pipe, which would block for ever."""
    with contextlib.suppress(OSError):  # links in a circle
        return entry.is_file()
    return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else os.path.join(folder, name)
