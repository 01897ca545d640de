"""Loads SAM 3: the demo, a folder saved by transformers, Meta's own checkpoint, or a repository on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sam3_lora.errors import ModelError, first_line
from sam3_lora.model import kept_text
from sam3_lora.model.base_files import meta_file
from sam3_lora.model.base_files import processor as processors
from sam3_lora.model.base_files.architecture import model_class, read_config, skeleton
from sam3_lora.model.base_files.locate import DOWNLOAD_FIX, SAM3, TEXTS, BaseFiles, locate
from sam3_lora.model.base_files.quiet import quiet
from sam3_lora.model.image_size import image_size_of, with_image_size

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Model, Sam3Processor

__all__ = ["SAM3", "LoadedModel", "load_base", "load_config", "load_processor", "resolve_device"]


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
        """Moves the weights to a device, in place; a text encoder that no adapter changes stays where it is.

        Raises:
            ModelError: the device's memory is too small.
        """
        staying = kept_text.MODULES if kept_text.is_frozen(self.model) else ()
        try:
            for name, child in self.model.named_children():
                if name not in staying:
                    child.to(device)
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

    Read are: folders of transformers with a ``Sam3Model``, a ``Sam3LiteTextModel`` or the published video model, of
    which only the detector is loaded; and the checkpoints that Meta publishes, sam3.pt and sam3.1_multiplex.pt.

    Args:
        name_or_path: "demo", a folder, a checkpoint (.pt), or a Hub repository such as facebook/sam3.
        device: of the weights.
        image_size: side in pixels of the square that images are resized to; None for the base's own. Another one must
            be a multiple of what the vision encoder's windows cover, see :mod:`sam3_lora.model.image_size`.
        processor: folder or Hub repository of the processor; "" for the base's own.

    Raises:
        ModelError: not found, no access, no network, not SAM 3, half-written, weights missing, out of memory, or an
            image size that does not fit.
    """
    files = locate(name_or_path)
    config = read_config(files, image_size)
    weights = None if files.checkpoint is None else _read_checkpoint(files.checkpoint, config)
    made_of = processors.load_processor(files, config, image_size, processor)
    model = _load_weights(files, config, weights)
    loaded = LoadedModel(model.train(False).requires_grad_(False), made_of, str(name_or_path))
    loaded.to(device)
    return loaded


def load_processor(name_or_path: str | Path, *, image_size: int | None = None, processor: str = "") -> Sam3Processor:
    """The processor of a base model, which makes tensors of images and phrases: as :func:`load_base` loads it."""
    files = locate(name_or_path, TEXTS)
    return processors.load_processor(files, read_config(files, image_size), image_size, processor)


def load_config(name_or_path: str | Path, *, image_size: int | None = None) -> Sam3Config:
    """The architecture alone, without any weights.

    For facebook/sam3 without access or network this is transformers' default ``Sam3Config``, which is the published
    architecture; :func:`load_base` has no such fallback.

    Raises:
        ModelError: as :func:`load_base`, if the configuration is the cause.
    """
    try:
        files = locate(name_or_path, ("config.json",))
    except ModelError:
        if str(name_or_path) != SAM3:
            raise
        from transformers import Sam3Config

        return with_image_size(Sam3Config(), image_size)
    return read_config(files, image_size)


def obstacle(name_or_path: str | Path) -> ModelError | None:
    """Why a base model's files cannot be had; None if they are here, or its configuration can be downloaded."""
    try:
        locate(name_or_path, ("config.json",))
    except ModelError as error:
        return error
    return None


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


def _load_weights(files: BaseFiles, config: Sam3Config, weights: dict[str, Tensor] | None) -> Sam3Model:
    from safetensors import SafetensorError

    folder, again = files.folder, "Copy or download the folder again"
    if weights is None and not any(folder.glob("*.safetensors")):
        raise ModelError(f"Expected weights (model.safetensors) in {folder}, but there are none", DOWNLOAD_FIX)
    try:
        with quiet():
            if weights is not None:
                loaded = _from_pretrained(None, config, state_dict=weights)
            else:
                # use_safetensors refuses pickles, which may run code.
                loaded = _from_pretrained(folder, config, use_safetensors=True, local_files_only=True)
    except SafetensorError as error:
        raise ModelError(f"The weights in {folder} are damaged or half-written: {first_line(error)}", again) from error
    except (RuntimeError, MemoryError) as error:
        raise _explain_runtime_error(error, files.place, "cpu") from error
    except Exception as error:  # a damaged index or config raises KeyError, TypeError, AttributeError and more
        raise ModelError(f"The model in {files.place} cannot be read: {first_line(error)}", again) from error
    model: Sam3Model = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ModelError(
            f"{len(missing)} of SAM 3's weights are missing in {folder}, such as {missing[0]}: they would be random",
            again,
        )
    return model


def _read_checkpoint(file: Path, config: Sam3Config) -> dict[str, Tensor]:
    """The weights in Meta's checkpoint, by our names."""
    expected = {name: weight.shape for name, weight in skeleton(config).state_dict().items()}
    return meta_file.convert(meta_file.read(file), expected, file)


def _from_pretrained(folder: Path | None, config: Sam3Config, **options: Any) -> Any:
    library: Any = model_class(config)
    return library.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True, **options)


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
