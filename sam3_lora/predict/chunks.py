"""The phrases that go through the model at once: as many as memory holds the activations of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sam3_lora.model.image_size import image_size_of
from sam3_lora.predict.postprocess import PhraseResult
from sam3_lora.structures import Detections

if TYPE_CHECKING:
    from transformers import Sam3Config

MAX_BYTES = 2 * 10**9  # of activations; beyond this many phrases at once are hardly faster
MAX_PHRASES = 64
_SHARE = 0.5  # of free memory; the rest is for the vision pass of the next image, and for other programs


@dataclass(frozen=True)
class Chunk:
    """Some of a prompt's phrases, computed together."""

    results: dict[str, PhraseResult]  # by phrase
    detections: Detections  # of these phrases, without masks, but with a mask head


def phrases_at_once(config: Sam3Config, device: torch.device, precision: str) -> int:
    """The largest number of phrases whose activations stay within the memory at hand; at least 1.

    Args:
        config: the model's.
        device: where it is.
        precision: of the forward passes.
    """
    budget = MAX_BYTES
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = min(budget, int(_SHARE * (free + cached)))
    return max(1, min(MAX_PHRASES, budget // phrase_bytes(config, precision)))


def phrase_bytes(config: Sam3Config, precision: str) -> int:
    """The memory that each phrase adds to the peak of a forward pass without gradients, estimated.

    At full size 140 MB in float32: either the widest activations of a DETR encoder layer, or the masks of all queries,
    while those of the single phrases and of all together exist at once.

    Args:
        config: the model's.
        precision: of the forward pass.
    """
    number = 4 if precision == "fp32" else 2  # bytes
    parts: Any = config  # its parts are typed as if they could be dictionaries
    encoder, vision = parts.detr_encoder_config, parts.vision_config
    coarse = (image_size_of(config) // vision.backbone_config.patch_size) ** 2
    features: int = coarse * encoder.hidden_size * number
    layer: int = 5 * features + 2 * coarse * encoder.intermediate_size * number
    masks: int = parts.detr_decoder_config.num_queries * int(coarse * vision.scale_factors[0] ** 2)
    return max(layer, features + masks * max(2 * number, 4 + number))
