"""The heads of the reference implementation at full width, and their weights in a transformers model.

Everything after the vision and text towers is the reference's own code, ``Sam3Image.forward_grounding``
included; image and phrase features are handed in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from sam3_lora.structures import Detections, TextFeatures, VisionFeatures

REASON = "the reference (package sam3, with what it imports) is not installed"
builder = pytest.importorskip("sam3.model_builder", reason=REASON, exc_type=ImportError)
decoders = pytest.importorskip("sam3.model.decoder", reason=REASON, exc_type=ImportError)
geometry = pytest.importorskip("sam3.model.geometry_encoders", reason=REASON, exc_type=ImportError)
sam3_image = pytest.importorskip("sam3.model.sam3_image", reason=REASON, exc_type=ImportError)
misc = pytest.importorskip("sam3.model.model_misc", reason=REASON, exc_type=ImportError)

WIDTH = 256
_LAYER = {"linear1": "mlp.fc1", "linear2": "mlp.fc2", "out_proj": "o_proj"}
_PRE_NORM = _LAYER | {"norm1": "layer_norm1", "norm2": "layer_norm2", "norm3": "layer_norm3"}
# Reference module -> (module of Sam3Model, names that differ, names without a counterpart).
_MAPS: dict[str, tuple[str, dict[str, str], str]] = {
    "transformer.decoder": (
        "detr_decoder",
        _LAYER
        | {
            "norm": "output_layer_norm",
            "cross_attn": "vision_cross_attn",
            "norm1": "vision_cross_attn_layer_norm",
            "ca_text": "text_cross_attn",
            "catext_norm": "text_cross_attn_layer_norm",
            "norm2": "self_attn_layer_norm",
            "norm3": "mlp_layer_norm",
            "bbox_embed": "box_head",
            "boxRPB_embed_x": "box_rpb_embed_x",
            "boxRPB_embed_y": "box_rpb_embed_y",
            "presence_token_head": "presence_head",
            "presence_token_out_norm": "presence_layer_norm",
        },
        "",
    ),
    "transformer.encoder": ("detr_encoder", _PRE_NORM | {"cross_attn_image": "cross_attn"}, ""),
    "geometry_encoder": (
        "geometry_encoder",
        _PRE_NORM
        | {
            "cross_attn_image": "cross_attn",
            "encode": "layers",
            "encode_norm": "output_layer_norm",
            "norm": "prompt_layer_norm",
            "img_pre_norm": "vision_layer_norm",
        },
        "points_",
    ),
    "segmentation_head": (
        "mask_decoder",
        _LAYER
        | {
            "mask_predictor": "",
            "mask_embed": "mask_embedder",
            "cross_attend_prompt": "prompt_cross_attn",
            "cross_attn_norm": "prompt_cross_attn_norm",
            "semantic_seg_head": "semantic_projection",
            "instance_seg_head": "instance_projection",
        },
        "",
    ),
    "dot_prod_scoring": (
        "dot_product_scoring",
        {"prompt_mlp": "text_mlp", "prompt_proj": "text_proj", "hs_proj": "query_proj"},
        "",
    ),
}
_NUMBERED_MLPS = re.compile(r"(box_head|box_rpb_embed_[xy]|presence_head|ref_point_head|text_mlp)\.layers\.(\d)")


def build(seed: int) -> nn.Module:
    """The reference's image model with random heads, no towers and no dropout."""
    torch.manual_seed(seed)
    on_cpu = staticmethod(lambda height, width, device: _coordinates(height, width))
    with mock.patch.object(decoders.TransformerDecoder, "_get_coords", on_cpu):
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
    return model


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The reference asks for these on a GPU while it is being built."""
    return torch.arange(height, dtype=torch.float32) / height, torch.arange(width, dtype=torch.float32) / width


def translated(reference: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients, of the reference by the names they have in Sam3Model."""
    result: dict[str, Tensor] = {}
    for prefix, (target, names, without_counterpart) in _MAPS.items():
        parameters = dict(reference.get_submodule(prefix).named_parameters())
        for name in parameters:
            if without_counterpart and name.startswith(without_counterpart):
                continue
            value = tensors[f"{prefix}.{name}"]
            parts = [names.get(part, part) for part in name.split(".")]
            path = ".".join([target, *(part for part in parts if part)])
            path = _NUMBERED_MLPS.sub(lambda match: f"{match[1]}.layer{int(match[2]) + 1}", path)
            path = path.replace("text_mlp.out_norm", "text_mlp_out_norm")
            if "in_proj_" in path:
                for letter, part in zip("qkv", value.chunk(3), strict=True):
                    result[path.replace("in_proj_", f"{letter}_proj.")] = part
            else:
                result[path] = value
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
