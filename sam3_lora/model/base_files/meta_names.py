"""The names of SAM 3's weights in Meta's checkpoints and in ``Sam3Model``: one table, read in both directions.

Source: the modules of the package sam3 0.1.4 (``sam3/model_builder.py``) and of transformers' ``modeling_sam3.py``.
tests/parity/ proves with the whole model that the weights mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

DETECTOR = "detector."  # prefix of the image detector in a checkpoint

_VISION, _NECK = "backbone.vision_backbone.trunk", "backbone.vision_backbone.convs"
_TEXT, _TEXT_LAYER = "backbone.language_backbone.encoder", "backbone.language_backbone.encoder.transformer.resblocks.#"
_OUR_TEXT, _OUR_TEXT_LAYER = "text_encoder.text_model", "text_encoder.text_model.encoder.layers.#"
_ENCODER, _DECODER = "transformer.encoder.layers.#", "transformer.decoder"
_GEOMETRY, _MASKS = "geometry_encoder", "segmentation_head"


def _mlp(meta: str, ours: str, layers: int) -> list[tuple[str, str]]:
    """The layers of an MLP, which Meta counts from 0 and transformers from 1."""
    return [(f"{meta}.layers.{layer}.@", f"{ours}.layer{layer + 1}.@") for layer in range(layers)]


def _attention(meta: str, ours: str, out: str = "o_proj") -> list[tuple[str, str]]:
    """An attention, whose three input projections are one matrix in Meta's."""
    return [(f"{meta}.in_proj_@", f"{ours}.(q|k|v)_proj.@"), (f"{meta}.out_proj.@", f"{ours}.{out}.@")]


def _pre_norm_layer(meta: str, ours: str) -> list[tuple[str, str]]:
    """A layer of the DETR encoder or of the geometry encoder."""
    return [
        *_attention(f"{meta}.self_attn", f"{ours}.self_attn"),
        *_attention(f"{meta}.cross_attn_image", f"{ours}.cross_attn"),
        *[(f"{meta}.linear{number}.@", f"{ours}.mlp.fc{number}.@") for number in (1, 2)],
        *[(f"{meta}.norm{number}.@", f"{ours}.layer_norm{number}.@") for number in (1, 2, 3)],
    ]


# Meta's name without "detector." -> ours. "#" is a number, "@" weight or bias; "(q|k|v)" stands for three weights that
# are one in Meta's, in this order.
TABLE: list[tuple[str, str]] = [
    # Vision encoder
    (f"{_VISION}.pos_embed", "vision_encoder.backbone.embeddings.position_embeddings"),
    (f"{_VISION}.patch_embed.proj.@", "vision_encoder.backbone.embeddings.patch_embeddings.projection.@"),
    (f"{_VISION}.ln_pre.@", "vision_encoder.backbone.layer_norm.@"),
    (f"{_VISION}.blocks.#.norm1.@", "vision_encoder.backbone.layers.#.layer_norm1.@"),
    (f"{_VISION}.blocks.#.norm2.@", "vision_encoder.backbone.layers.#.layer_norm2.@"),
    (f"{_VISION}.blocks.#.attn.qkv.@", "vision_encoder.backbone.layers.#.attention.(q|k|v)_proj.@"),
    (f"{_VISION}.blocks.#.attn.proj.@", "vision_encoder.backbone.layers.#.attention.o_proj.@"),
    (f"{_VISION}.blocks.#.mlp.fc1.@", "vision_encoder.backbone.layers.#.mlp.fc1.@"),
    (f"{_VISION}.blocks.#.mlp.fc2.@", "vision_encoder.backbone.layers.#.mlp.fc2.@"),
    # Its neck: the first level has two transposed convolutions with an activation between them, the second has one
    (f"{_NECK}.0.dconv_2x2_0.@", "vision_encoder.neck.fpn_layers.0.scale_layers.0.@"),
    (f"{_NECK}.0.dconv_2x2_1.@", "vision_encoder.neck.fpn_layers.0.scale_layers.2.@"),
    (f"{_NECK}.1.dconv_2x2.@", "vision_encoder.neck.fpn_layers.1.scale_layers.0.@"),
    (f"{_NECK}.#.conv_1x1.@", "vision_encoder.neck.fpn_layers.#.proj1.@"),
    (f"{_NECK}.#.conv_3x3.@", "vision_encoder.neck.fpn_layers.#.proj2.@"),
    # Text encoder
    (f"{_TEXT}.token_embedding.@", f"{_OUR_TEXT}.embeddings.token_embedding.@"),
    (f"{_TEXT}.positional_embedding", f"{_OUR_TEXT}.embeddings.position_embedding.weight"),
    *_attention(f"{_TEXT_LAYER}.attn", f"{_OUR_TEXT_LAYER}.self_attn", out="out_proj"),
    (f"{_TEXT_LAYER}.ln_1.@", f"{_OUR_TEXT_LAYER}.layer_norm1.@"),
    (f"{_TEXT_LAYER}.ln_2.@", f"{_OUR_TEXT_LAYER}.layer_norm2.@"),
    (f"{_TEXT_LAYER}.mlp.c_fc.@", f"{_OUR_TEXT_LAYER}.mlp.fc1.@"),
    (f"{_TEXT_LAYER}.mlp.c_proj.@", f"{_OUR_TEXT_LAYER}.mlp.fc2.@"),
    (f"{_TEXT}.ln_final.@", f"{_OUR_TEXT}.final_layer_norm.@"),
    (f"{_TEXT}.text_projection", "text_encoder.text_projection.weight"),
    ("backbone.language_backbone.resizer.@", "text_projection.@"),
    # Geometry encoder
    (f"{_GEOMETRY}.label_embed.@", f"{_GEOMETRY}.label_embed.@"),
    (f"{_GEOMETRY}.cls_embed.@", f"{_GEOMETRY}.cls_embed.@"),
    (f"{_GEOMETRY}.boxes_direct_project.@", f"{_GEOMETRY}.boxes_direct_project.@"),
    (f"{_GEOMETRY}.boxes_pool_project.@", f"{_GEOMETRY}.boxes_pool_project.@"),
    (f"{_GEOMETRY}.boxes_pos_enc_project.@", f"{_GEOMETRY}.boxes_pos_enc_project.@"),
    (f"{_GEOMETRY}.img_pre_norm.@", f"{_GEOMETRY}.vision_layer_norm.@"),
    (f"{_GEOMETRY}.final_proj.@", f"{_GEOMETRY}.final_proj.@"),
    (f"{_GEOMETRY}.norm.@", f"{_GEOMETRY}.prompt_layer_norm.@"),
    *_pre_norm_layer(f"{_GEOMETRY}.encode.#", f"{_GEOMETRY}.layers.#"),
    (f"{_GEOMETRY}.encode_norm.@", f"{_GEOMETRY}.output_layer_norm.@"),
    # DETR encoder
    *_pre_norm_layer(_ENCODER, "detr_encoder.layers.#"),
    # DETR decoder: Meta numbers its norms by their place in an older layer, not by what they follow
    *_attention(f"{_DECODER}.layers.#.cross_attn", "detr_decoder.layers.#.vision_cross_attn"),
    (f"{_DECODER}.layers.#.norm1.@", "detr_decoder.layers.#.vision_cross_attn_layer_norm.@"),
    *_attention(f"{_DECODER}.layers.#.ca_text", "detr_decoder.layers.#.text_cross_attn"),
    (f"{_DECODER}.layers.#.catext_norm.@", "detr_decoder.layers.#.text_cross_attn_layer_norm.@"),
    *_attention(f"{_DECODER}.layers.#.self_attn", "detr_decoder.layers.#.self_attn"),
    (f"{_DECODER}.layers.#.norm2.@", "detr_decoder.layers.#.self_attn_layer_norm.@"),
    (f"{_DECODER}.layers.#.linear1.@", "detr_decoder.layers.#.mlp.fc1.@"),
    (f"{_DECODER}.layers.#.linear2.@", "detr_decoder.layers.#.mlp.fc2.@"),
    (f"{_DECODER}.layers.#.norm3.@", "detr_decoder.layers.#.mlp_layer_norm.@"),
    (f"{_DECODER}.norm.@", "detr_decoder.output_layer_norm.@"),
    (f"{_DECODER}.query_embed.@", "detr_decoder.query_embed.@"),
    (f"{_DECODER}.reference_points.@", "detr_decoder.reference_points.@"),
    *_mlp(f"{_DECODER}.bbox_embed", "detr_decoder.box_head", 3),
    *_mlp(f"{_DECODER}.ref_point_head", "detr_decoder.ref_point_head", 2),
    *_mlp(f"{_DECODER}.boxRPB_embed_x", "detr_decoder.box_rpb_embed_x", 2),
    *_mlp(f"{_DECODER}.boxRPB_embed_y", "detr_decoder.box_rpb_embed_y", 2),
    (f"{_DECODER}.presence_token.@", "detr_decoder.presence_token.@"),
    *_mlp(f"{_DECODER}.presence_token_head", "detr_decoder.presence_head", 3),
    (f"{_DECODER}.presence_token_out_norm.@", "detr_decoder.presence_layer_norm.@"),
    # Mask decoder
    (f"{_MASKS}.pixel_decoder.conv_layers.#.@", "mask_decoder.pixel_decoder.conv_layers.#.@"),
    (f"{_MASKS}.pixel_decoder.norms.#.@", "mask_decoder.pixel_decoder.norms.#.@"),
    (f"{_MASKS}.mask_predictor.mask_embed.layers.#.@", "mask_decoder.mask_embedder.layers.#.@"),
    *_attention(f"{_MASKS}.cross_attend_prompt", "mask_decoder.prompt_cross_attn"),
    (f"{_MASKS}.cross_attn_norm.@", "mask_decoder.prompt_cross_attn_norm.@"),
    (f"{_MASKS}.semantic_seg_head.@", "mask_decoder.semantic_projection.@"),
    (f"{_MASKS}.instance_seg_head.@", "mask_decoder.instance_projection.@"),
    # Scoring
    *_mlp("dot_prod_scoring.prompt_mlp", "dot_product_scoring.text_mlp", 2),
    ("dot_prod_scoring.prompt_mlp.out_norm.@", "dot_product_scoring.text_mlp_out_norm.@"),
    ("dot_prod_scoring.prompt_proj.@", "dot_product_scoring.text_proj.@"),
    ("dot_prod_scoring.hs_proj.@", "dot_product_scoring.query_proj.@"),
]

# What the detector has no use for, by what it is; whole names in the checkpoint.
IGNORED: dict[str, str] = {
    "the tracker": r"tracker\..*",
    "the tracker's neck": r"detector\.backbone\.vision_backbone\.sam2_convs\..*",
    "SAM 3.1's necks of point prompts and tracking": (
        r"detector\.backbone\.vision_backbone\.(interactive|propagation)_convs\..*"
    ),
    "point prompts": r"detector\.geometry_encoder\.points_(direct|pool|pos_enc)_project\.(weight|bias)",
    "rotary tables, which are computed": (
        r"detector\.backbone\.vision_backbone\.trunk\.blocks\.\d+\.attn\.freqs_cis(_real|_imag)?"
    ),
}
# SAM 3.1's neck ends with the level that SAM 3 uses last; Sam3Model computes one more and drops it. Zeros stand for it.
UNUSED_LEVEL = re.compile(r"vision_encoder\.neck\.fpn_layers\.3\.proj[12]\.(weight|bias)")
POSITIONS = "vision_encoder.backbone.embeddings.position_embeddings"
_TRANSPOSED = "text_encoder.text_projection.weight"


@dataclass(frozen=True)
class _Row:
    """A row of the table, for the names that it matches."""

    meta: re.Pattern[str]
    ours: re.Pattern[str]
    to_ours: str
    to_meta: str
    fused: bool


@cache
def _rows() -> list[_Row]:
    return [
        _Row(_regex(meta), _regex(ours), _template(ours), _template(meta), fused="(q|k|v)" in ours)
        for meta, ours in TABLE
    ]


def _regex(name: str) -> re.Pattern[str]:
    escaped = re.escape(name).replace(re.escape("(q|k|v)"), "(?P<part>[qkv])")
    return re.compile(escaped.replace(r"\#", r"(?P<number>\d+)").replace("@", "(?P<kind>weight|bias)"))


def _template(name: str) -> str:
    return name.replace("#", "{number}").replace("@", "{kind}").replace("(q|k|v)", "{part}")


def ignored_as(name: str) -> str | None:
    """What a weight of a checkpoint is that the detector has no use for; None for all others."""
    return next((what for what, pattern in IGNORED.items() if re.fullmatch(pattern, name)), None)


def to_ours(name: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A weight of a checkpoint as the weights of ``Sam3Model`` that it holds; nothing for a name that is not known.

    Args:
        name: with "detector." before it.
        weight: of any type; views of it are given.
    """
    for row in _rows():
        if not (match := row.meta.fullmatch(name.removeprefix(DETECTOR))):
            continue
        for part, value in zip("qkv", weight.chunk(3), strict=False) if row.fused and weight.dim() else [("", weight)]:
            ours = row.to_ours.format(part=part, **match.groupdict())
            yield ours, _without_class_token(value) if ours == POSITIONS else value.T if ours == _TRANSPOSED else value
        return


def _without_class_token(positions: Tensor) -> Tensor:
    """(1, 1 + N, C) -> (1, N, C): Meta's ViT keeps the position of a class token that it does not have."""
    return positions[:, 1:] if positions.dim() == 3 else positions


def to_meta(weights: dict[str, Tensor], class_token: Tensor | None = None) -> dict[str, Tensor]:
    """The inverse of :func:`to_ours`: the weights of a ``Sam3Model`` as a checkpoint names them.

    Args:
        weights: all of a model's, by our name.
        class_token: (1, 1, C) its position embedding in the original checkpoint, which nothing reads; None for zeros.

    Raises:
        KeyError: a name that the table does not have.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        row, match = next(((row, match) for row in _rows() if (match := row.ours.fullmatch(name))), (None, None))
        if row is None or match is None:
            raise KeyError(name)
        value = weight
        if name == POSITIONS:
            value = torch.cat([weight[:, :1] * 0 if class_token is None else class_token.to(weight), weight], dim=1)
        elif name == _TRANSPOSED:
            value = weight.T.contiguous()
        groups = match.groupdict()
        part = groups.pop("part", None) or ""
        found.setdefault(DETECTOR + row.to_meta.format(**groups), {})[part] = value
    return {
        name: parts[""] if "" in parts else torch.cat([parts[part] for part in "qkv"]) for name, parts in found.items()
    }
