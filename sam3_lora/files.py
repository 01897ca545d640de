"""Files and folders that appear under their name whole or not at all."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """A file to write, in a ``.tmp`` beside `path` that is renamed to it at the end, and deleted after an error.

    Args:
        path: where the file appears; replaces an earlier one. Its folder must exist.
        sync: wait until it is on the disk, so that a machine that loses its power leaves no empty file.

    Raises:
        OSError: it cannot be written.
    """
    # Others may write the same file at the same time.
    partial = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with partial.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # where nothing could be written there is nothing to delete
            partial.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, data: str | bytes) -> None:
    """Writes a small file (text in UTF-8) so that no reader ever sees half of it. Raises OSError."""
    with atomic_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, in a hidden one beside `path`; it is moved to `path` at the end, and deleted after an error.

    Args:
        path: where the folder appears; nothing, or an empty folder, is there. Its parent must exist.

    Raises:
        OSError: it cannot be written, or `path` is a folder that is not empty.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        written = Path(temporary) / "new"  # a temporary folder itself is for its owner only
        written.mkdir()
        yield written
        if path.is_dir():
            path.rmdir()
        written.rename(path)
