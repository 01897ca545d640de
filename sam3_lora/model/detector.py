"""Runs SAM 3 on images and phrases and returns the detections of every decoder layer, as the loss needs them.

``transformers.Sam3Model`` returns only the last layer and omits the geometry token when there is no box. This module
composes its submodules as SAM 3 was trained: "SAM 3: Segment Anything with Concepts" (2025), facebookresearch/sam3,
``sam3/model/sam3_image.py`` and ``decoder.py``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from sam3_lora.structures import Detections, TextFeatures, VisionFeatures

if TYPE_CHECKING:
    from transformers import Sam3Model
    from transformers.models.sam3.modeling_sam3 import Sam3DetrDecoderLayer, Sam3DETREncoderOutput

__all__ = ["PADDING_LABEL", "Detections", "Sam3Detector", "TextFeatures", "VisionFeatures"]

PADDING_LABEL = -10  # of boxes that only pad a batch, as in Sam3Processor


class Sam3Detector(nn.Module):
    """SAM 3 as training needs it: auxiliary layers, one-to-many queries, many phrases per image.

    In training mode the decoder runs its queries twice, the second time without self-attention (one-to-many, "DAC"),
    and :attr:`Detections.one_to_many` is filled.

    Args:
        base: the model, possibly with LoRA layers; it is used in place, never copied.
    """

    def __init__(self, base: Sam3Model) -> None:
        super().__init__()
        self.base = base
        self._checkpoint_masks = False

    def gradient_checkpointing(self, enabled: bool) -> None:
        """Recomputes activations of vision layers and mask decoder in the backward pass, to save memory."""
        for layer in self.base.vision_encoder.backbone.layers:
            layer.gradient_checkpointing = enabled
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        self._checkpoint_masks = enabled

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        image_index: Tensor,
        backbone: Tensor | None = None,
    ) -> Detections:
        """:meth:`encode_images`, :meth:`encode_text` and :meth:`detect` in one call, as distributed training needs it.

        Args:
            pixel_values: see :meth:`encode_images`.
            input_ids: see :meth:`encode_text`.
            attention_mask: see :meth:`encode_text`.
            image_index: see :meth:`detect`.
            backbone: see :meth:`encode_images`.
        """
        vision = self.encode_images(pixel_values, backbone=backbone)
        text = self.encode_text(input_ids, attention_mask)
        return self.detect(vision, text, image_index)

    def encode_backbone(self, pixel_values: Tensor) -> Tensor:
        """The vision backbone's output (B, H*W, C) before the neck, independent of any phrase.

        Args:
            pixel_values: (B, 3, S, S) float, squashed to the model's size S and scaled to [-1, 1].
        """
        output: Tensor = self.base.vision_encoder.backbone(pixel_values).last_hidden_state
        return output

    def encode_images(self, pixel_values: Tensor | None = None, *, backbone: Tensor | None = None) -> VisionFeatures:
        """Image features, independent of any phrase.

        Args:
            pixel_values: see :meth:`encode_backbone`; not needed with `backbone`.
            backbone: (B, H*W, C), what :meth:`encode_backbone` gives, where it is known already.
        """
        encoder = self.base.vision_encoder
        # The coarsest level serves the video tracker only.
        if backbone is None:
            assert pixel_values is not None, "expected pixel_values or backbone"
            output = encoder(pixel_values)
            levels, position = output.fpn_hidden_states[:-1], list(output.fpn_position_encoding[:-1])
        else:
            side = math.isqrt(backbone.shape[1])
            assert side * side == backbone.shape[1], f"expected a square grid, got {backbone.shape[1]} places"
            grid = backbone.transpose(1, 2).reshape(len(backbone), -1, side, side)  # (B, C, H, W)
            levels = tuple(layer(grid) for layer in encoder.neck.fpn_layers[:-1])
            position = [encoder.neck.position_encoding(level.shape, level.device, level.dtype) for level in levels]
        # The heads use the last one. Sines of angles rounded to bf16 are off by up to 0.03, so it is computed in
        # float32, as the reference does.
        last = levels[-1]
        position[-1] = encoder.neck.position_encoding(last.shape, last.device, torch.float32)
        if not torch.is_autocast_enabled(last.device.type):
            position[-1] = position[-1].to(last.dtype)
        return VisionFeatures(fpn=tuple(levels), position=tuple(position))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> TextFeatures:
        """Phrase features, independent of any image.

        Args:
            input_ids: (P, T) int64, as the processor's tokenizer makes them.
            attention_mask: (P, T), nonzero for real tokens.
        """
        states = self.base.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return TextFeatures(states=states, mask=attention_mask.bool())

    def text_only_geometry(self, vision: VisionFeatures) -> tuple[Tensor, Tensor]:
        """Geometry tokens of a prompt without boxes, for any phrase: (B, 2, C), and which of them are real, (B, 2).

        They depend on an adapter of the geometry encoder.
        """
        return self._geometry(vision.fpn[-1], vision.position[-1], None, None)

    def detect(
        self,
        vision: VisionFeatures,
        text: TextFeatures,
        image_index: Tensor,
        boxes: Tensor | None = None,
        box_labels: Tensor | None = None,
    ) -> Detections:
        """Detects the objects of each phrase in its image.

        Args:
            vision: features of B images.
            text: features of P phrases.
            image_index: (P,) int64 in [0, B): the image of each phrase.
            boxes: (P, K, 4) exemplar boxes, cxcywh in [0, 1], or None.
            box_labels: (P, K) int64: 1 objects like this one, 0 none like this one, -10 padding; None takes every box
                as positive.

        Returns:
            Detections of all L decoder layers; logits, boxes and presence in float32.
        """
        phrases = len(text.states)
        assert image_index.shape == (phrases,), f"expected one image per phrase ({phrases}), got {image_index.shape}"
        fpn = [level[image_index] for level in vision.fpn]
        position = vision.position[-1][image_index]
        if boxes is None:
            # Once per image, not once per phrase.
            states, mask = (part[image_index] for part in vision.text_only_geometry or self.text_only_geometry(vision))
        else:
            states, mask = self._geometry(fpn[-1], position, boxes, box_labels)
        prompt, prompt_mask = torch.cat((text.states, states), dim=1), torch.cat((text.mask, mask), dim=1)
        encoded = self.base.detr_encoder(
            vision_features=[fpn[-1]], text_features=prompt, vision_pos_embeds=[position], text_mask=prompt_mask
        )
        queries, reference, presence = self._decode(
            encoded, prompt, prompt_mask, (fpn[-1].shape[-2], fpn[-1].shape[-1])
        )
        logits = self.base.dot_product_scoring(queries, prompt, prompt_mask).squeeze(-1)
        masks, semantic = self._masks(queries[-1], fpn, encoded.last_hidden_state, prompt, prompt_mask)
        return self._assemble(logits.float(), reference.float(), presence.float(), masks, semantic)

    def _geometry(
        self, features: Tensor, position: Tensor, boxes: Tensor | None, box_labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Geometry tokens of P boxed images (P, K + 1, C) and which of them are real; without boxes K is 1."""
        phrases = len(features)
        if boxes is None:
            # SAM 3 was trained with the geometry encoder's own token always in the prompt. One padded box adds it;
            # without it the masks change by half their range.
            boxes = features.new_zeros((phrases, 1, 4))
            box_labels = torch.full((phrases, 1), PADDING_LABEL, device=features.device)
        elif box_labels is None:
            box_labels = torch.ones(boxes.shape[:2], dtype=torch.int64, device=boxes.device)
        assert boxes.shape == (phrases, box_labels.shape[1], 4), f"expected boxes (P, K, 4), got {boxes.shape}"
        dtype = self.base.text_projection.weight.dtype
        # RoIAlign has no bf16, and a box rounded to bf16 is a different box.
        with torch.autocast(features.device.type, enabled=False):
            geometry = self.base.geometry_encoder(
                box_embeddings=boxes.to(dtype),
                box_mask=box_labels != PADDING_LABEL,
                box_labels=box_labels.clamp(min=0),
                img_feats=(features.to(dtype),),
                img_pos_embeds=(position.to(dtype),),
            )
        return geometry.last_hidden_state, geometry.attention_mask

    def _decode(
        self, encoded: Sam3DETREncoderOutput, prompt: Tensor, prompt_mask: Tensor, size_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (L, P, N, C), boxes (L, P, N, 4) and presence (L, P); N is Q, in training 2 Q.

        Boxes look forward twice (DINO, Zhang et al., 2022): the decoder continues from a detached box, but the box a
        layer predicts starts from the previous layer's box with its gradient.
        """
        from transformers.models.sam3.modeling_sam3 import inverse_sigmoid

        decoder = self.base.detr_decoder
        hidden, reference, prompt_attention = self._decoder_inputs(prompt, prompt_mask)
        steering = reference
        limit = decoder.clamp_presence_logit_max_val
        queries, boxes, presence = [], [], []
        for layer in cast("list[Sam3DetrDecoderLayer]", decoder.layers):
            query_position = decoder.ref_point_head(decoder.position_encoding.encode_boxes(steering))
            # The presence token has no box: no position, and it looks at the whole image alike.
            bias = decoder._get_rpb_matrix(steering, size_hw)  # type: ignore[arg-type]  # takes ints, too
            bias = pad(bias, (0, 0, 1, 0))  # (P, heads, 1 + N, H * W)
            query_position = pad(query_position, (0, 0, 1, 0))
            hidden = self._decoder_layer(layer, hidden, query_position, encoded, prompt, prompt_attention, bias)
            normed = decoder.output_layer_norm(hidden[:, 1:])
            offset = decoder.box_head(normed)
            queries.append(normed)
            boxes.append((offset + inverse_sigmoid(reference)).sigmoid())
            presence.append(decoder.presence_head(decoder.presence_layer_norm(hidden[:, 0])).clamp(-limit, limit))
            reference = (offset + inverse_sigmoid(steering)).sigmoid()
            steering = reference.detach()
        return torch.stack(queries), torch.stack(boxes), torch.stack(presence).squeeze(-1)

    def _decoder_inputs(self, prompt: Tensor, prompt_mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Presence token and queries (P, 1 + N, C), first boxes (P, N, 4), the prompt's attention mask."""
        from transformers.masking_utils import create_bidirectional_mask

        decoder = self.base.detr_decoder
        copies = 2 if self.training else 1
        queries = decoder.query_embed.weight.repeat(copies, 1)
        hidden = torch.cat((decoder.presence_token.weight, queries)).expand(len(prompt), -1, -1)
        reference = decoder.reference_points.weight.repeat(copies, 1).sigmoid().expand(len(prompt), -1, -1)
        attention = create_bidirectional_mask(
            config=decoder.config, inputs_embeds=hidden, attention_mask=prompt_mask, encoder_hidden_states=prompt
        )
        return hidden, reference, attention

    def _decoder_layer(
        self,
        layer: Sam3DetrDecoderLayer,
        hidden: Tensor,
        query_position: Tensor,
        encoded: Sam3DETREncoderOutput,
        prompt: Tensor,
        prompt_attention: Tensor | None,
        bias: Tensor,
    ) -> Tensor:
        """One decoder layer, (P, 1 + N, C) -> same: only presence token and first half attend to each other."""
        split = self.base.detr_decoder.config.num_queries + 1
        first, rest = hidden[:, :split], hidden[:, split:]
        positioned = first + query_position[:, :split]
        attended, _ = layer.self_attn(query=positioned, key=positioned, value=first)
        hidden = torch.cat((first + layer.self_attn_dropout(attended), rest), dim=1)
        hidden = layer.self_attn_layer_norm(hidden)

        attended, _ = layer.text_cross_attn(
            query=hidden + query_position, key=prompt, value=prompt, attention_mask=prompt_attention
        )
        hidden = layer.text_cross_attn_layer_norm(hidden + layer.text_cross_attn_dropout(attended))

        image, image_position = encoded.last_hidden_state, encoded.pos_embeds_flattened
        assert image is not None and image_position is not None, "the encoder returns both"
        attended, _ = layer.vision_cross_attn(
            query=hidden + query_position,
            key=image + image_position,
            value=image,
            attention_mask=bias,
        )
        hidden = layer.vision_cross_attn_layer_norm(hidden + layer.vision_cross_attn_dropout(attended))
        output: Tensor = layer.mlp_layer_norm(hidden + layer.mlp_dropout(layer.mlp(hidden)))
        return output

    def _masks(
        self, queries: Tensor, fpn: list[Tensor], image: Tensor, prompt: Tensor, prompt_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (P, N, h, w) and semantic logits (P, 1, h, w)."""

        def run(queries: Tensor, image: Tensor, prompt: Tensor, *fpn: Tensor) -> tuple[Tensor, Tensor]:
            output = self.base.mask_decoder(
                decoder_queries=queries,
                backbone_features=list(fpn),
                encoder_hidden_states=image,
                prompt_features=prompt,
                prompt_mask=prompt_mask,
            )
            return output.pred_masks, output.semantic_seg

        if self._checkpoint_masks and self.training:
            return checkpoint(run, queries, image, prompt, *fpn, use_reentrant=False)
        return run(queries, image, prompt, *fpn)

    def _assemble(self, logits: Tensor, boxes: Tensor, presence: Tensor, masks: Tensor, semantic: Tensor) -> Detections:
        """Splits the queries into the one-to-one and the one-to-many half."""
        count = self.base.detr_decoder.config.num_queries
        o2m = None
        if self.training:
            o2m = Detections(logits[..., count:], boxes[:, :, count:], None, masks[:, count:], None)
        return Detections(logits[..., :count], boxes[:, :, :count], presence, masks[:, :count], semantic, o2m)
