"""The cache of indexes of large datasets, outside the datasets: where it is, and when an index is still valid."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sam3_lora.data.folders import is_text
from sam3_lora.data.index.index import Index, IndexWriter
from sam3_lora.files import atomic_file, sweep

CACHE_VARIABLE = "SAM3_LORA_CACHE"
_UNUSED_DAYS = 60
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The environment variable SAM3_LORA_CACHE, otherwise the user's cache folder of this system."""
    import platformdirs

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("sam3-lora-studio", appauthor=False)


def cache_file(key: str, ending: str) -> Path:
    """The file in the cache folder for what a key identifies."""
    return cache_folder() / f"{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:32]}.{ending}"


class Watched:
    """Files and folders that an index was made from: it is valid as long as none of them has changed.

    The code of sam3_lora.data is among them, so that no index outlives the version that made it.

    Attributes:
        states: by path, for the index.
    """

    def __init__(self) -> None:
        self.states: dict[str, tuple[int, int]] = {}
        for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
            self.add(path)

    def add(self, path: Path | str) -> None:
        """Notes the state of a file or folder, before it is read. One whose name is not valid text is never read."""
        if is_text(str(path)):
            self.states.setdefault(str(path), state_of(str(path)))

    @staticmethod
    def is_unchanged(words: dict[str, list[int]]) -> bool:
        """Whether the files and folders of an index are as they were."""
        return all(list(state_of(path)) == state for path, state in words.items())


def index_of(key: str, build: Callable[[IndexWriter], None], *, keep: bool) -> Index:
    """The index of a split, from the cache or built now.

    Args:
        key: identifies the split and all options that change how it is read.
        build: writes the index; its words hold "watched" (`Watched.states`) and "token" (:func:`new_token`).
        keep: whether to use the cache; small splits are read faster than they are looked up.
    """
    file = cache_file(key, "index")
    if keep and (index := _valid(file) or _built(file, build)):
        return index
    writer = IndexWriter()
    build(writer)
    return writer.in_memory()


def new_token() -> str:
    """A random name that distinguishes this build of an index from every other."""
    return secrets.token_hex(8)


def _valid(file: Path) -> Index | None:
    """The index in a file if it is intact and still valid."""
    try:
        index = Index.open(file)
        if Watched.is_unchanged(index.words["watched"]):
            os.utime(file)  # says that it is in use
            return index
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError, msgspec.MsgspecError) as error:
        _log.info("The index %s cannot be used and is built again: %s", file, error)
    return None


def _built(file: Path, build: Callable[[IndexWriter], None]) -> Index | None:
    """Builds an index and writes it whole; None if the cache folder cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _tidy(file.parent)
        with atomic_file(file) as target:
            build(IndexWriter(target))
        return Index.open(file)
    except OSError as error:
        _log.warning("The dataset's index cannot be kept in %s: %s", file.parent, error)
        return None


def _tidy(folder: Path) -> None:
    """Deletes indexes that have not been used for long, and what crashed processes left."""
    sweep(folder)
    oldest = time.time() - _UNUSED_DAYS * 86_400
    for path in [found for ending in ("index", "groups", "partial") for found in folder.glob(f"*.{ending}")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def state_of(path: str) -> tuple[int, int]:
    """(size, time of change) of a file, (-1, time of change) of a folder, (-2, 0) of nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -2, 0
    return -1 if stat.S_ISDIR(found.st_mode) else found.st_size, found.st_mtime_ns
