"""Adapters from elsewhere, as zip archives: what is unpacked, and what is refused and why."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from sam3_lora.errors import ModelError
from sam3_lora.model import adapter_files
from sam3_lora.model.adapter_files import SETTINGS, WEIGHTS

_MAX_FILES = 1000
_MAX_BYTES = {".safetensors": 2 << 30, ".json": 4 << 20}  # unpacked, by the file's ending; all else is not unpacked
_TEXTS = (".md", ".txt", ".yaml", ".yml", ".jsonl", ".log")  # of a run's archive: harmless, and not needed
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_BLOCK = 1 << 20
_FIX = "Zip an adapter's folder, with its adapter_config.json and adapter_model.safetensors"


def unpack(archive: str | Path, into: Path, name: str = "adapter") -> Path:
    """Unpacks the adapter of an archive into a folder named by its name and content, and returns that folder.

    Only JSON and safetensors files are unpacked; plain texts are passed over. Of several adapters, as in a run's
    archive, the one called "best" is taken, else the first. Where it was unpacked before nothing is written.

    Args:
        archive: the zip file.
        into: the folder that holds all unpacked adapters.
        name: what it is called by; letters, digits, "-" and "_" of it are used.

    Raises:
        ModelError: no zip, no adapter in it, or something in it is refused: pickled weights, which may run code, paths
            that lead out of the archive, links, other kinds of files, more than an adapter can hold, damaged weights.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(opened)
            root = _root_of_adapter(entries)
            chosen = {
                path.name: entry
                for path, entry in entries.items()
                if path.parent == root and path.name in (SETTINGS, WEIGHTS)
            }
            called = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60]
            folder = into / f"{called}-{_digest(archive)}"
            if not folder.is_dir():
                _write(opened, chosen, folder)
            return folder
    except zipfile.BadZipFile as error:
        raise ModelError(f"Expected a zip archive with an adapter, but it cannot be opened ({error})", _FIX) from None
    # What zipfile raises for a full disk, a compression that it does not know, a password, and damaged content.
    except (OSError, NotImplementedError, RuntimeError, EOFError, UnicodeError, LZMAError, zlib.error) as error:
        raise ModelError(f"The archive cannot be unpacked ({error})", "Zip the adapter's folder again") from None


def _checked(archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files that may be unpacked, by their paths. Raises ModelError for the first one that forbids it."""
    listed = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(listed) > _MAX_FILES:
        raise ModelError(f"The archive holds {len(listed):,} files; an adapter is two", _FIX)
    entries = {}
    for entry in listed:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise ModelError(
                f"The path '{entry.filename}' leads out of the archive, so nothing of it was unpacked", _FIX
            )
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise ModelError(f"'{path}' is a link, which may lead anywhere, so nothing was unpacked", _FIX)
        if entry.flag_bits & 1:
            raise ModelError("The archive asks for a password", "Zip the adapter's folder without one")
        ending = path.suffix.lower()
        if path.name.startswith("._") or "__MACOSX" in path.parts or path.name == ".DS_Store" or ending in _TEXTS:
            continue  # what systems add on their own
        _check_kind(path, ending, entry.file_size)
        entries[path] = entry
    return entries


def _check_kind(path: PurePosixPath, ending: str, size: int) -> None:
    if ending in _PICKLES:
        raise ModelError(
            f"'{path}' holds pickled weights, which may run code when they are opened: they never are",
            "Save the adapter with PEFT as safetensors, and zip that",
        )
    if ending not in _MAX_BYTES:
        raise ModelError(f"Expected safetensors and JSON files only, but the archive holds '{path}'", _FIX)
    if size > _MAX_BYTES[ending]:
        raise ModelError(
            f"'{path}' would take {size / 1e9:.1f} GB when unpacked, more than the {_MAX_BYTES[ending] / 1e9:.3g} GB "
            "that an adapter may have",
            "Give its folder by its path if this is right",
        )


def _root_of_adapter(entries: dict[PurePosixPath, zipfile.ZipInfo]) -> PurePosixPath:
    roots = [path.parent for path in entries if path.name == SETTINGS]
    if not roots:
        raise ModelError(f"Expected an adapter in the archive, but it holds no {SETTINGS}", _FIX)
    root = next((root for root in roots if root.name == "best"), roots[0])
    if root / WEIGHTS not in entries:
        raise ModelError(f"Expected {WEIGHTS} beside {SETTINGS} in the archive, but there is none", _FIX)
    return root


def _digest(archive: str | Path) -> str:
    digest = hashlib.blake2b(digest_size=6)
    with open(archive, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _write(archive: zipfile.ZipFile, chosen: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    """The folder appears once it is whole and known to hold an adapter."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    from safetensors import SafetensorError

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        written = Path(temporary) / "new"
        written.mkdir()
        for name, entry in chosen.items():
            with archive.open(entry) as packed, (written / name).open("xb") as file:
                # Reads no more than the size that was checked: what an entry says of itself may be a lie.
                left = entry.file_size
                while left > 0 and (block := packed.read(min(_BLOCK, left))):
                    left -= len(block)
                    file.write(block)
        try:
            adapter_files.read_settings(written)
            adapter_files.check_weights(written)
        except SafetensorError as error:
            raise ModelError(f"The {WEIGHTS} in the archive is damaged or no safetensors file: {error}", _FIX) from None
        except ModelError as error:  # which names a folder that nobody knows
            raise ModelError(error.message.replace(str(written), "the archive"), error.fix) from None
        written.rename(folder)
