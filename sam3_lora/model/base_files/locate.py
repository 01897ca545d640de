"""Finds the files of a base model: in a folder, as one file, or downloaded from the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.errors import ModelError, first_line
from sam3_lora.files import require_regular, user_path
from sam3_lora.model.base_files import hub
from sam3_lora.model.base_files.meta_file import PUBLISHED
from sam3_lora.text import first_names

SAM3 = "facebook/sam3"
DOWNLOAD_FIX = (
    f"Choose 'demo', the name {SAM3}, a folder made with 'hf download {SAM3} --local-dir FOLDER', or Meta's sam3.pt"
)
TEXTS = ("*.json", "*.txt")  # architecture, processor and tokenizer
# facebook/sam3 also contains Meta's own checkpoint (.pt), which is not needed and doubles the download.
FILES = (*TEXTS, "*.safetensors")
_CHECKPOINT = "*.pt"
_CHECKPOINT_ENDINGS = (".pt", ".pth")
_READ = (".json", ".txt", ".safetensors", *_CHECKPOINT_ENDINGS)
_SAFETENSORS = "model*.safetensors"  # as transformers names them; an adapter's may lie beside a checkpoint
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class BaseFiles:
    """Where a base model's files are."""

    folder: Path
    # Meta's, where the weights are not transformers' safetensors; not there yet where only other files are asked for
    checkpoint: Path | None = None

    @property
    def place(self) -> Path:
        """The path that messages name."""
        return self.checkpoint or self.folder


def locate(name_or_path: str | Path, patterns: tuple[str, ...] = FILES) -> BaseFiles:
    """The files of a base model or, with fewer patterns, those of its files that are needed.

    Args:
        name_or_path: "demo", a folder, a checkpoint of Meta (.pt), or a Hub repository.
        patterns: of the files to download from the Hub; a repository without safetensors is asked for its .pt, too.

    Raises:
        ModelError: there is nothing, or the repository cannot be downloaded.
    """
    name = str(name_or_path).strip()
    try:
        path = ASSETS / "demo" / "model" if name == DEMO else user_path(name)
        if not name or path.is_file():
            return _single_file(path if name else None)
        if path.is_dir():
            if files := list(path.iterdir()):
                _require_regular(files)
                return BaseFiles(path, _checkpoint_in(path))
            raise ModelError(f"The folder {path} is empty", DOWNLOAD_FIX)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"The folder '{name}' cannot be opened: {first_line(error)}", DOWNLOAD_FIX) from error
    if isinstance(name_or_path, str) and _REPOSITORY.fullmatch(name):
        return _download(name, patterns)
    what = "file" if path.suffix == ".pt" else "folder"
    raise ModelError(f"There is no {what} {path}", DOWNLOAD_FIX)


def _require_regular(files: Iterable[Path]) -> None:
    """Raises OSError for what a library would read for ever by its name: a pipe, a device, a socket."""
    for file in files:
        if file.suffix.lower() in _READ and not file.is_dir():
            require_regular(file)


def _single_file(path: Path | None) -> BaseFiles:
    if path is not None and path.suffix.lower() in _CHECKPOINT_ENDINGS:
        return BaseFiles(path.parent, path)
    what = f"the file {path}" if path else "nothing"
    raise ModelError(f"Expected a model folder, but got {what}", DOWNLOAD_FIX)


def _checkpoint_in(folder: Path) -> Path | None:
    """Meta's checkpoint in a folder; None where there are safetensors, or no checkpoint."""
    if any(folder.glob(_SAFETENSORS)):
        return None
    return _checkpoint_among(path for path in folder.glob("*") if path.is_file())


def _checkpoint_among(files: Iterable[Path]) -> Path | None:
    """Meta's checkpoint among the files of a folder. Raises ModelError if there are several."""
    found = sorted(path for path in files if path.suffix.lower() in _CHECKPOINT_ENDINGS)
    published = [path for name in PUBLISHED for path in found if path.name == name]
    if len(found) > 1 and not published:
        raise ModelError(
            f"Expected one checkpoint in {found[0].parent}, but there are {first_names([path.name for path in found])}",
            "Give the file's path instead of the folder's",
        )
    return next(iter(published or found), None)


def _download(name: str, patterns: tuple[str, ...]) -> BaseFiles:
    folder = hub.download(name, list(patterns))
    if patterns == FILES and not any(folder.glob(_SAFETENSORS)):  # facebook/sam3.1 has nothing but the .pt
        folder = hub.download(name, [*TEXTS, _CHECKPOINT])
    checkpoint = _checkpoint_in(folder)
    if patterns == FILES or checkpoint is not None or any(folder.glob(_SAFETENSORS)):
        return BaseFiles(folder, checkpoint)
    # Its config.json is to be read as it will be with the weights.
    published = hub.file_names(name)
    if not any(fnmatch(file, _SAFETENSORS) for file in published):
        checkpoint = _checkpoint_among(folder / file for file in published if "/" not in file)
    return BaseFiles(folder, checkpoint)
