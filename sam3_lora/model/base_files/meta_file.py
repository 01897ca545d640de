"""Reads and writes Meta's checkpoints of SAM 3 (sam3.pt, sam3.1_multiplex.pt); nothing in them is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sam3_lora.errors import ModelError, first_line
from sam3_lora.model.base_files.meta_names import DETECTOR, UNUSED_LEVEL, ignored_as, to_meta, to_ours
from sam3_lora.model.image_size import with_image_size
from sam3_lora.text import first_names, plural

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Model

PUBLISHED = ("sam3.pt", "sam3.1_multiplex.pt")  # file names in facebook/sam3 and facebook/sam3.1
_FIX = "Give Meta's sam3.pt or sam3.1_multiplex.pt as published; if it is that file, copy or download it again"
_IMAGE_SIZE = 1008  # of the reference's rotary tables
_MAX_NAMED = 5


def read(file: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by Meta's names, mapped from the file: memory is used only for those that are read.

    Raises:
        ModelError: no checkpoint, damaged, or with other objects than weights, which may run code and are not loaded.
    """
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The file {file} is no checkpoint of weights alone: it is damaged, or holds objects that may run code, "
            "which are not loaded",
            _FIX,
        ) from error
    # RuntimeError: no archive, or a damaged one; the others come from a damaged pickle in it.
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        text = first_line(error)
        if not zipfile.is_zipfile(file):
            text = "it is cut off, or no file that PyTorch saved (1.6 or later)"
        raise ModelError(f"The checkpoint {file} cannot be read: {text}", _FIX) from error
    if isinstance(found, dict) and isinstance(found.get("model"), dict):
        found = found["model"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"Expected a dictionary of weights in {file}, but it holds something else", _FIX)
    return {str(name): value for name, value in found.items()}


def convert(weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size], file: Path) -> dict[str, Tensor]:
    """The weights of the detector by the names of ``Sam3Model``, in float32.

    Args:
        weights: all of a checkpoint, by Meta's names.
        expected: name -> shape of every weight that the model has.
        file: for messages.

    Raises:
        ModelError: weights are missing, not known, or of another shape; it names them.
    """
    if not any(name.startswith(DETECTOR) for name in weights):
        what = "only SAM 3's tracker" if any(map(ignored_as, weights)) else f"another model ({_some(weights)})"
        raise ModelError(f"Expected the detector of SAM 3 in {file}, but it holds {what}", _FIX)
    found: dict[str, Tensor] = {}
    unknown = []
    for name, weight in weights.items():
        if ignored_as(name) is not None:
            continue
        if not (converted := dict(to_ours(name, weight))):
            unknown.append(name)
        found |= converted
    unknown += [name for name in found if name not in expected]
    for name in expected:
        if UNUSED_LEVEL.fullmatch(name) and name not in found:
            found[name] = torch.zeros(expected[name])
    if missing := [name for name in expected if name not in found]:
        raise ModelError(
            f"{len(missing)} of SAM 3's weights are missing in {file} ({_some(missing)}): they would be random", _FIX
        )
    if unknown:
        raise ModelError(
            f"{file} holds {plural(len(unknown), 'weight')} that SAM 3 does not have ({_some(unknown)})", _FIX
        )
    if other := [name for name in expected if found[name].shape != expected[name]]:
        raise ModelError(
            f"{plural(len(other), 'weight')} in {file} have another shape than SAM 3's ({_some(other)})",
            f"{_FIX}; a model of another size needs its config.json beside it",
        )
    if odd := [name for name in expected if not _holds_numbers(found[name])]:
        raise ModelError(
            f"Expected floating-point numbers in {file}, but {plural(len(odd), 'weight')} of it ({_some(odd)}) came as "
            "integers, quantized, sparse or without values",
            _FIX,
        )
    return {name: found[name].to(torch.float32) for name in expected}


def _holds_numbers(weight: Tensor) -> bool:
    is_dense = weight.layout is torch.strided and not weight.is_quantized
    return is_dense and weight.is_floating_point() and not weight.is_meta


def write(model: Sam3Model, file: Path, original: Mapping[str, Tensor] | None = None) -> None:
    """Writes a checkpoint that the package sam3 loads.

    Args:
        model: without an adapter.
        file: to write.
        original: the checkpoint that the model was read from: what the detector has no use for, such as the tracker, is
            copied from it. None if there was none: then the image model of sam3 is complete with zeros for point
            prompts, and there is no tracker.

    Raises:
        OSError: it cannot be written.
    """
    ours = {name: weight.detach().to("cpu") for name, weight in model.state_dict().items()}
    positions = None if original is None else original.get(f"{DETECTOR}backbone.vision_backbone.trunk.pos_embed")
    if original is None:
        rest = _rotary_tables(model.config) | _point_prompts(model.config)
    else:
        rest = {name: value for name, value in original.items() if ignored_as(name) is not None}
    written = to_meta(ours, None if positions is None else positions[:, :1])
    if original is not None:  # SAM 3.1's has one level less
        written = {name: value for name, value in written.items() if name in original}
    torch.save(written | rest, file)


def _some(names: Mapping[str, Any] | list[str]) -> str:
    return first_names(list(names), _MAX_NAMED)


def _rotary_tables(config: Sam3Config) -> dict[str, Tensor]:
    """The tables that the reference keeps among its weights, (N, C / 2) complex, at its own image size."""
    import copy

    from transformers.models.sam3.modeling_sam3 import Sam3ViTLayer, Sam3ViTRotaryEmbedding

    vision: Any = with_image_size(copy.deepcopy(config), _IMAGE_SIZE).vision_config
    backbone, tables = vision.backbone_config, {}
    for layer in range(backbone.num_hidden_layers):
        window = 0 if layer in backbone.global_attn_indexes else backbone.window_size
        positions = Sam3ViTLayer.precompute_positions(backbone, window)
        cosine, sine = Sam3ViTRotaryEmbedding(backbone)(positions, positions)
        name = f"{DETECTOR}backbone.vision_backbone.trunk.blocks.{layer}.attn.freqs_cis"
        tables[name] = torch.complex(cosine[0, :, ::2].contiguous(), sine[0, :, ::2].contiguous())
    return tables


def _point_prompts(config: Sam3Config) -> dict[str, Tensor]:
    """Zeros for the layers that embed points, which phrases and boxes do not pass."""
    geometry: Any = config.geometry_encoder_config
    width = geometry.hidden_size
    return {
        f"{DETECTOR}geometry_encoder.points_{name}_project.{kind}": torch.zeros(*shape)
        for name, inputs in (("direct", 2), ("pool", width), ("pos_enc", width))
        for kind, shape in (("weight", (width, inputs)), ("bias", (width,)))
    }
