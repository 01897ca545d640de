"""Loads SAM 3: the demo, a folder saved by transformers, or a repository on the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.errors import ModelError, first_line
from sam3_lora.model import hub
from sam3_lora.model.image_size import image_size_of, resize_processor, with_image_size

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Model, Sam3Processor

SAM3 = "facebook/sam3"
DOWNLOAD_FIX = f"Choose 'demo', the name {SAM3}, or a folder made with 'hf download {SAM3} --local-dir FOLDER'"
_PROCESSOR_FIX = "Copy the processor's and tokenizer's files of the original model into it"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# The repository also contains the original checkpoint (.pt), which is not needed and doubles the download.
_TEXTS = ["*.json", "*.txt"]
_FILES = [*_TEXTS, "*.safetensors"]


@dataclass(frozen=True)
class LoadedModel:
    """A base model, frozen and in eval mode."""

    model: Sam3Model
    processor: Sam3Processor
    name: str  # as given by the user: "demo", a folder or a repository

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that images are resized to."""
        return image_size_of(self.model.config)

    def to(self, device: torch.device | str) -> None:
        """Moves the weights to a device, in place. Raises ModelError if its memory is too small."""
        try:
            self.model.to(device)  # type: ignore[arg-type]  # transformers wraps it without its types
        except RuntimeError as error:
            raise _explain_runtime_error(error, self.name, device) from error


def load_base(
    name_or_path: str | Path,
    *,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    processor: str = "",
) -> LoadedModel:
    """Loads a base model with all of its weights, in float32, which training under autocast expects.

    Both layouts are read: a ``Sam3Model``, and the published video model, of which only the detector is loaded.

    Args:
        name_or_path: "demo", a folder, or a Hub repository such as facebook/sam3.
        device: of the weights.
        image_size: side in pixels of the square that images are resized to; None for the base's own. Another one must
            be a multiple of what the vision encoder's windows cover, see :mod:`sam3_lora.model.image_size`.
        processor: folder or Hub repository of the processor; "" for the base's own.

    Raises:
        ModelError: not found, no access, no network, not SAM 3, half-written, weights missing, out of memory, or an
            image size that does not fit.
    """
    folder = _locate(name_or_path, _FILES)
    config = _read_config(folder, image_size)
    made_of = _processor_of(folder, config, image_size, processor)
    model = _load_weights(folder, config)
    loaded = LoadedModel(model.train(False).requires_grad_(False), made_of, str(name_or_path))
    loaded.to(device)
    return loaded


def load_processor(name_or_path: str | Path, *, image_size: int | None = None, processor: str = "") -> Sam3Processor:
    """The processor of a base model, which makes tensors of images and phrases: as :func:`load_base` loads it."""
    folder = _locate(name_or_path, _TEXTS)
    return _processor_of(folder, _read_config(folder, image_size), image_size, processor)


def load_config(name_or_path: str | Path, *, image_size: int | None = None) -> Sam3Config:
    """The architecture alone, without any weights.

    For facebook/sam3 without access or network this is transformers' default ``Sam3Config``, which is the published
    architecture; :func:`load_base` has no such fallback.

    Raises:
        ModelError: as :func:`load_base`, if the configuration is the cause.
    """
    try:
        folder = _locate(name_or_path, ["config.json"])
    except ModelError:
        if str(name_or_path) != SAM3:
            raise
        from transformers import Sam3Config

        return with_image_size(Sam3Config(), image_size)
    return _read_config(folder, image_size)


def resolve_device(name: str) -> torch.device:
    """The device for "auto" (a GPU where there is one), "cpu", "cuda" or "mps".

    Raises:
        ModelError: there is no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in available.items() if found))
    if name not in available:
        raise ModelError(f"Expected a device among auto, {', '.join(available)}, but got '{name}'", "Choose auto")
    if not available[name]:
        raise ModelError(
            f"Expected the device '{name}', but PyTorch finds none on this machine",
            "Choose auto or cpu, or install a PyTorch build and a driver for your GPU",
        )
    return torch.device(name)


def _locate(name_or_path: str | Path, patterns: list[str]) -> Path:
    """The folder with the model's files, downloaded if a repository is named."""
    name = str(name_or_path).strip()
    try:
        path = ASSETS / "demo" / "model" if name == DEMO else Path(name).expanduser()
        if not name or path.is_file():
            what = f"the file {path}" if name else "nothing"
            raise ModelError(f"Expected a model folder, but got {what}", DOWNLOAD_FIX)
        if path.is_dir():
            if any(path.iterdir()):
                return path
            raise ModelError(f"The folder {path} is empty", DOWNLOAD_FIX)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"The folder '{name}' cannot be opened: {first_line(error)}", DOWNLOAD_FIX) from error
    if isinstance(name_or_path, str) and _REPOSITORY.fullmatch(name):
        return hub.download(name, patterns)
    raise ModelError(f"There is no folder {path}", DOWNLOAD_FIX)


def _read_config(folder: Path, image_size: int | None) -> Sam3Config:
    from transformers import Sam3Config

    values = _read_json(folder)
    kind = values.get("model_type")
    if kind == "sam3_video":
        values = values.get("detector_config") or {}
    elif kind != "sam3":
        raise ModelError(f"Expected a SAM 3 model in {folder}, but its config.json is of type '{kind}'", DOWNLOAD_FIX)
    try:
        config = Sam3Config(**values)
    except Exception as error:  # transformers validates little: wrong values raise TypeError, KeyError and more
        raise ModelError(
            f"The config.json in {folder} does not describe a SAM 3 model: {first_line(error)}", DOWNLOAD_FIX
        ) from error
    return with_image_size(config, image_size)


def _read_json(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"Expected a base model in {folder}, but it contains an adapter",
                "Give this folder as the adapter, and the model it was trained for as the base",
            )
        raise ModelError(f"Expected config.json in {folder}, but there is none", DOWNLOAD_FIX)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"The config.json in {folder} cannot be read and may be half-written: {first_line(error)}",
            "Copy or download the folder again",
        ) from error
    if not isinstance(values, dict):
        raise ModelError(f"Expected settings in {file}, but found a {type(values).__name__}", DOWNLOAD_FIX)
    return values


def _load_weights(folder: Path, config: Sam3Config) -> Sam3Model:
    from safetensors import SafetensorError
    from transformers import Sam3Model

    again = "Copy or download the folder again"
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"Expected weights (model.safetensors) in {folder}, but there are none", DOWNLOAD_FIX)
    try:
        with _quiet():
            # use_safetensors refuses pickles, which may run code.
            loaded: Any = Sam3Model.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise ModelError(f"The weights in {folder} are damaged or half-written: {first_line(error)}", again) from error
    except (RuntimeError, MemoryError) as error:
        raise _explain_runtime_error(error, folder, "cpu") from error
    except Exception as error:  # a damaged index or config raises KeyError, TypeError, AttributeError and more
        raise ModelError(f"The model in {folder} cannot be read: {first_line(error)}", again) from error
    model: Sam3Model = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ModelError(
            f"{len(missing)} of SAM 3's weights are missing in {folder}, such as {missing[0]}: they would be random",
            again,
        )
    return model


def _processor_of(folder: Path, config: Sam3Config, image_size: int | None, named: str) -> Sam3Processor:
    """The processor that the user named, or the folder's own, for images of the model's size."""
    made_of = _load_processor(_locate(named, _TEXTS) if named else folder)
    size, expected = made_of.image_processor.size["height"], image_size_of(config)
    if size != expected and not named and image_size is None:
        raise ModelError(
            f"The model in {folder} takes images of {expected} pixels, but its processor makes them {size}",
            _PROCESSOR_FIX,
        )
    resize_processor(made_of, config)
    return made_of


def _load_processor(folder: Path) -> Sam3Processor:
    from transformers import Sam3Processor

    # Without a tokenizer's files transformers creates one with an empty vocabulary.
    for names in (("processor_config.json", "preprocessor_config.json"), ("tokenizer.json", "vocab.json")):
        if not any((folder / name).is_file() for name in names):
            raise ModelError(f"Expected {names[0]} in {folder}, but there is none", _PROCESSOR_FIX)
    try:
        with _quiet():
            return Sam3Processor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file raises KeyError, TypeError, AttributeError and more
        raise ModelError(f"The processor in {folder} cannot be loaded: {first_line(error)}", _PROCESSOR_FIX) from error


def _explain_runtime_error(error: BaseException, folder: Path | str, device: torch.device | str) -> ModelError:
    text = str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in text.lower():
        return ModelError(
            f"The memory of '{device}' is too small for the model in {folder}",
            "Close other programs that use it, or choose another device",
        )
    if "mismatched_sizes" in text or "size mismatch" in text:
        return ModelError(
            f"The weights in {folder} do not fit its config.json: they have other sizes",
            "Copy or download the folder again, all files from the same place",
        )
    return ModelError(f"The model in {folder} cannot be loaded onto '{device}': {first_line(error)}", DOWNLOAD_FIX)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences transformers' own reports; our errors say what matters in them."""
    from transformers.utils import logging as library_logging

    logging: Any = library_logging  # its functions have no types
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
