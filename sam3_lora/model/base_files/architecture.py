"""The architecture of a base model: SAM 3 or one of its relatives, from its config.json."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sam3_lora.errors import ModelError, first_line
from sam3_lora.files import MB, read_file
from sam3_lora.model.base_files.locate import DOWNLOAD_FIX, BaseFiles
from sam3_lora.model.image_size import with_image_size

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Model

# Of the vision encoder's norms in Meta's code (sam3/model/vitdet.py); transformers' default is 1e-6, by which features
# of the whole model would differ by 1e-5 of their range after two layers, and more after 32.
_META_EPSILON = 1e-5
_VIDEO = "_video"  # ending of the type of a model with a tracker, whose detector is used


def read_config(files: BaseFiles, image_size: int | None = None) -> Sam3Config:
    """The architecture that the files describe; SAM 3's own for a checkpoint of Meta without a config.json.

    Args:
        files: of the base model.
        image_size: see :func:`sam3_lora.model.image_size.with_image_size`.

    Raises:
        ModelError: no SAM 3, half-written, not valid, or the image size does not fit.
    """
    if files.checkpoint is not None:
        return with_image_size(_config_beside(files.folder), image_size)
    values = _read_json(files.folder)
    if (config := _make_config(values, files.folder)) is None:
        kind = values.get("model_type")
        raise ModelError(
            f"Expected a SAM 3 model in {files.folder}, but its config.json is of type '{kind}'", DOWNLOAD_FIX
        )
    return with_image_size(config, image_size)


def model_class(config: Sam3Config) -> type[Sam3Model]:
    """The class of transformers that an architecture is for."""
    return _classes()[config.model_type][1]


def skeleton(config: Sam3Config) -> Sam3Model:
    """The model without weights: on the meta device, in less than a second and no memory."""
    with torch.device("meta"):
        return model_class(config)(copy.deepcopy(config))


def _classes() -> dict[str, tuple[type[Sam3Config], type[Sam3Model]]]:
    """Type in a config.json -> classes. SAM3-LiteText is SAM 3 with a smaller text encoder."""
    import transformers

    names: Any = transformers
    return {
        "sam3": (names.Sam3Config, names.Sam3Model),
        "sam3_lite_text": (names.Sam3LiteTextConfig, names.Sam3LiteTextModel),
    }


def _make_config(values: dict[str, Any], folder: Path) -> Sam3Config | None:
    """The configuration; None for another model. Raises ModelError if it is not valid."""
    kind = values.get("model_type")
    if isinstance(kind, str) and kind.endswith(_VIDEO):
        kind, values = kind.removesuffix(_VIDEO), values.get("detector_config") or {}
    if kind not in _classes():
        return None
    try:
        return _classes()[kind][0](**values)
    except Exception as error:  # transformers validates little: wrong values raise TypeError, KeyError and more
        raise ModelError(
            f"The config.json in {folder} does not describe a SAM 3 model: {first_line(error)}", DOWNLOAD_FIX
        ) from error


def _config_beside(folder: Path) -> Sam3Config:
    """The config.json beside a checkpoint if it is SAM 3's: in a folder of downloads it may be anything's."""
    from transformers import Sam3Config

    try:
        config = _make_config(_read_json(folder), folder)
    except ModelError:
        config = None
    config = config if type(config) is Sam3Config else Sam3Config()
    vision: Any = config.vision_config
    vision.backbone_config.layer_norm_eps = _META_EPSILON
    return config


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
        values = json.loads(read_file(file, MB).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"The config.json in {folder} cannot be read and may be half-written: {first_line(error)}",
            "Copy or download the folder again",
        ) from error
    if not isinstance(values, dict):
        raise ModelError(f"Expected settings in {file}, but found a {type(values).__name__}", DOWNLOAD_FIX)
    return values
