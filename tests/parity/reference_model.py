"""The heads of the reference implementation at full width, and their weights in a transformers model.

Everything after the vision and text towers is the reference's own code, ``Sam3Image.forward_grounding``
included; image and phrase features are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from sam3_lora.model.base_files.meta_names import DETECTOR, ignored_as, to_ours
from sam3_lora.structures import Detections, TextFeatures, VisionFeatures

REASON = "the reference (package sam3, with what it imports) is not installed"
builder = pytest.importorskip("sam3.model_builder", reason=REASON, exc_type=ImportError)
decoders = pytest.importorskip("sam3.model.decoder", reason=REASON, exc_type=ImportError)
geometry = pytest.importorskip("sam3.model.geometry_encoders", reason=REASON, exc_type=ImportError)
sam3_image = pytest.importorskip("sam3.model.sam3_image", reason=REASON, exc_type=ImportError)
misc = pytest.importorskip("sam3.model.model_misc", reason=REASON, exc_type=ImportError)

WIDTH = 256


def build(seed: int) -> nn.Module:
    """The reference's image model with random heads, no towers and no dropout."""
    torch.manual_seed(seed)
    with on_cpu():
        transformer = misc.TransformerWrapper(
            encoder=builder._create_transformer_encoder(),
            decoder=builder._create_transformer_decoder(),
            d_model=WIDTH,
        )
    model = builder._create_sam3_model(
        backbone=nn.Identity(),
        transformer=transformer,
        input_geometry_encoder=builder._create_geometry_encoder(),
        segmentation_head=builder._create_segmentation_head(),
        dot_prod_scoring=builder._create_dot_product_scoring(),
        inst_interactive_predictor=None,
        eval_mode=True,
    )
    randomize(model)
    return model


def randomize(model: nn.Module) -> None:
    """Makes every weight count, in place, and switches dropout off."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh norms and biases are ones and zeros, the box head's last layer is zero: they would hide mistakes.
            if parameter.dim() == 1 or "bbox_embed.layers.2" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0


@contextmanager
def on_cpu() -> Iterator[None]:
    """Lets the reference be built without a GPU, where it puts tables that it computes in advance."""
    coordinates = staticmethod(lambda height, width, device: _coordinates(height, width))
    positions = builder.PositionEmbeddingSine

    def not_in_advance(**options: Any) -> nn.Module:
        return positions(**{**options, "precompute_resolution": None})

    with (
        mock.patch.object(decoders.TransformerDecoder, "_get_coords", coordinates),
        mock.patch.object(builder, "PositionEmbeddingSine", not_in_advance),
    ):
        yield


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The reference asks for these on a GPU while it is being built."""
    return torch.arange(height, dtype=torch.float32) / height, torch.arange(width, dtype=torch.float32) / width


def translated(reference: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients, of the reference by the names they have in Sam3Model."""
    result: dict[str, Tensor] = {}
    for name, _ in reference.named_parameters():
        if ignored_as(DETECTOR + name) is None:
            converted = dict(to_ours(name, tensors[name]))
            assert converted, f"{name} has no counterpart"
            result |= converted
    return result


def copy_into(reference: nn.Module, model: nn.Module) -> None:
    """Gives a Sam3Model the reference's heads. Fails if one weight of its heads is left over."""
    state = translated(reference, dict(reference.named_parameters()))
    missing, unexpected = model.load_state_dict(state, strict=False)
    towers = ("vision_encoder.", "text_encoder.", "text_projection.")
    assert not unexpected, unexpected
    assert all(name.startswith(towers) for name in missing), [n for n in missing if not n.startswith(towers)]


@dataclass(frozen=True)
class Features:
    """What the towers would give: three maps per image, tokens per phrase, and boxes if any."""

    vision: VisionFeatures
    text: TextFeatures
    image_index: Tensor
    boxes: Tensor | None = None
    box_labels: Tensor | None = None


def detect(reference: nn.Module, features: Features) -> Detections:
    """Runs the reference's grounding and packs what it answers; all layers in training, else the last one."""
    vision, text = features.vision, features.text
    backbone = {
        "backbone_fpn": list(vision.fpn),
        "vision_pos_enc": list(vision.position),
        "language_features": text.states.transpose(0, 1),
        "language_mask": ~text.mask,
    }
    asked = SimpleNamespace(text_ids=torch.arange(len(text.states)), img_ids=features.image_index)
    with (
        mock.patch.object(Tensor, "pin_memory", lambda self: self),
        # It pools with boxes in float32 whatever the features are; exact gradients need both in float64.
        mock.patch.object(geometry.torchvision.ops, "roi_align", _roi_align),
        # The loss's matching, which training runs inside the model: not under test here.
        mock.patch.object(sam3_image.Sam3Image, "_compute_matching", lambda *args: None),
        mock.patch.object(sam3_image.Sam3Image, "back_convert", lambda *args: None),
    ):
        out = reference.forward_grounding(backbone, asked, None, _prompt(features))
    return _pack(out, one_to_many=reference.training)


def _roi_align(features: Tensor, boxes: tuple[Tensor, ...], size: int) -> Tensor:
    return roi_align(features, [box.to(features.dtype) for box in boxes], size)


def _prompt(features: Features):
    phrases = len(features.text.states)
    dtype = features.text.states.dtype
    nothing = torch.zeros(phrases, 0, dtype=torch.bool)
    points = {"point_embeddings": torch.zeros(0, phrases, 2, dtype=dtype), "point_mask": nothing}
    if features.boxes is None:
        return geometry.Prompt(box_embeddings=torch.zeros(0, phrases, 4, dtype=dtype), box_mask=nothing, **points)
    return geometry.Prompt(
        box_embeddings=features.boxes.transpose(0, 1),
        box_mask=features.box_labels < 0,
        box_labels=features.box_labels.clamp(min=0).transpose(0, 1),
        **points,
    )


def _pack(out: dict, one_to_many: bool) -> Detections:
    layers = [*out.get("aux_outputs", ()), out]
    second = None
    if one_to_many:
        second = Detections(
            logits=torch.stack([layer["pred_logits_o2m"] for layer in layers]).squeeze(-1),
            boxes=torch.stack([layer["pred_boxes_o2m"] for layer in layers]),
            presence=None,
            masks=out["pred_masks_o2m"],
            semantic=None,
        )
    return Detections(
        logits=torch.stack([layer["pred_logits"] for layer in layers]).squeeze(-1),
        boxes=torch.stack([layer["pred_boxes"] for layer in layers]),
        presence=torch.stack([layer["presence_logit_dec"] for layer in layers]).squeeze(-1),
        masks=out["pred_masks"],
        semantic=out["semantic_seg"],
        one_to_many=second,
    )
