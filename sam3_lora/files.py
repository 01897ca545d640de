"""Reads regular files only, and writes files and folders that appear under their name whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

MB = 1_000_000
# A pipe without a writer, or a file of the kernel without news, answers at once instead of blocking for ever; a
# terminal does not become that of this process.
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file to read its bytes. Links to one are followed.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device, a socket or a folder, which block or never end.
    """
    return open(path, "rb", opener=_open_regular)


def read_file(path: str | Path, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: bytes that it may have at most: more than any real file of its kind.

    Raises:
        OSError: as for :func:`open_regular`, or it is larger than `limit`.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)  # not by its size: that of the kernel's files is 0
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit / MB:g} MB", str(path))
    return content


def require_regular(path: str | Path) -> None:
    """Raises OSError if a path is no regular file or link to one: for files that a library opens by their names."""
    _require_regular(os.stat(path), path)


def _open_regular(path: str, flags: int) -> int:
    require_regular(path)  # some devices act on being opened
    descriptor = os.open(path, flags | _WITHOUT_WAITING)
    try:
        _require_regular(os.fstat(descriptor), path)  # it may have been replaced
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file but a pipe, a device or a socket", str(path))


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


def follow_umask(folder: Path) -> None:
    """Gives the files in a folder the permissions of new ones: safetensors creates its own for their owner only.

    Raises OSError.
    """
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(mode)


def check_writable(path: Path) -> None:
    """Tries a small file in the folder that a path leads to, or in the nearest one above it that exists.

    To be called before long work whose result goes there; nothing is left behind. Raises OSError.
    """
    folder = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
