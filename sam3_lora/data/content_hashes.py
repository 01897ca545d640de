"""Hashes of files' contents, remembered by path, size and time of change: a file is read once, not at every start."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

import msgspec

from sam3_lora.data.folders import is_text
from sam3_lora.data.index.cache import state_of
from sam3_lora.files import atomic_file, open_regular, read_file

HASH_BYTES = 16
_MAX_BYTES = 2**30  # of what is remembered: about 150 bytes an image
_FORGET_DAYS = 60  # after which a file that nobody asked for is read again
_log = logging.getLogger(__name__)

_Entry = tuple[int, int, bytes, int]  # size, time of change in ns, hash, day of last use


class ContentHashes:
    """The hashes of files.

    Args:
        file: where they are remembered; missing or damaged it is made anew. Of two processes that write it at the same
            time one loses what it has added, and reads these files again another time.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)
        self._today = int(time.time() // 86_400)
        self._has_news = False

    def of(self, path: Path) -> bytes:
        """HASH_BYTES bytes that identify a file's content. Raises OSError if it cannot be read."""
        name = str(path.absolute())
        size, changed = state_of(name)
        known = self._known.get(name)
        if known is None or known[:2] != (size, changed):
            with open_regular(path) as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).digest()
        elif known[3] == self._today:
            return known[2]
        else:
            digest = known[2]
        if is_text(name):
            self._known[name] = (size, changed, digest, self._today)
            self._has_news = True
        return digest

    def save(self) -> None:
        """Remembers the hashes for the next process; one that cannot be written is told in the log only."""
        if not self._has_news:
            return
        recent = self._today - _FORGET_DAYS
        entries = {name: entry for name, entry in (_read(self._file) | self._known).items() if entry[3] >= recent}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._file) as file:
                file.write(msgspec.msgpack.encode(entries))
            self._has_news = False
        except OSError as error:
            _log.warning("Hashes of images cannot be kept in %s: %s", self._file, error)


def _read(file: Path) -> dict[str, _Entry]:
    try:
        return msgspec.msgpack.decode(read_file(file, _MAX_BYTES), type=dict[str, _Entry])
    except (OSError, msgspec.MsgspecError):
        return {}
