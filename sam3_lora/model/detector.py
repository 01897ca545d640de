"""Runs SAM 3 on images and phrases and returns the detections of every decoder layer, as the loss needs them.

``transformers.Sam3Model`` returns only the last layer and omits the geometry token when there is no box. This module
composes its submodules as SAM 3 was trained: "SAM 3: Segment Anything with Concepts" (2025), facebookresearch/sam3,
``sam3/model/sam3_image.py`` and ``decoder.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sam3_lora.model import kept_text
from sam3_lora.model.decoder import Decoder
from sam3_lora.model.mask_head import MaskHead
from sam3_lora.structures import PADDING_LABEL, Detections, TextFeatures, VisionFeatures, to_device

if TYPE_CHECKING:
    from transformers import Sam3Model

__all__ = ["PADDING_LABEL", "Detections", "Sam3Detector", "TextFeatures", "VisionFeatures"]


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
        self._checkpointed = False

    def gradient_checkpointing(self, enabled: bool) -> None:
        """Recomputes activations of every layer and of each phrase's masks in the backward pass, to save memory."""
        for layer in self.base.vision_encoder.backbone.layers:
            layer.gradient_checkpointing = enabled
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        self._checkpointed = enabled

    def compile_vision(self, enabled: bool, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compiles the layers of the vision encoder, each when it runs; parameters keep their names.

        Args:
            enabled: False to run them as they are.
            backend: of torch.compile.
        """
        if enabled:
            # One graph for all layers of a kind, for each batch size, with gradients and without: more than eight.
            torch._dynamo.config.recompile_limit = 64
        for layer in self.base.vision_encoder.backbone.layers:
            if enabled:
                layer.compile(dynamic=False, backend=backend)
            else:
                layer._compiled_call_impl = None

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        image_index: Tensor,
        backbone: Tensor | None = None,
        boxes: Tensor | None = None,
        box_labels: Tensor | None = None,
        *,
        masks: bool = True,
        one_to_many: bool = True,
    ) -> Detections:
        """:meth:`encode_images`, :meth:`encode_text` and :meth:`detect` in one call.

        Args:
            pixel_values: see :meth:`encode_images`.
            input_ids: see :meth:`encode_text`.
            attention_mask: see :meth:`encode_text`.
            image_index: see :meth:`detect`.
            backbone: see :meth:`encode_images`.
            boxes: see :meth:`detect`.
            box_labels: see :meth:`detect`.
            masks: see :meth:`detect`.
            one_to_many: see :meth:`detect`.
        """
        vision = self.encode_images(pixel_values, backbone=backbone)
        text = self.encode_text(input_ids, attention_mask)
        return self.detect(vision, text, image_index, boxes, box_labels, masks=masks, one_to_many=one_to_many)

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
            # As the encoder does it, channels last in memory: convolutions round by the layout.
            grid = backbone.reshape(len(backbone), side, side, -1).permute(0, 3, 1, 2)  # (B, C, H, W)
            levels = tuple(layer(grid) for layer in encoder.neck.fpn_layers[:-1])
            position = [encoder.neck.position_encoding(level.shape, level.device, level.dtype) for level in levels]
        # The heads use the last one. Sines of angles rounded to bf16 are off by up to 0.03, so it is computed in
        # float32, as the reference does.
        last = levels[-1]
        position[-1] = encoder.neck.position_encoding(last.shape, last.device, torch.float32)
        if not torch.is_autocast_enabled(last.device.type):
            position[-1] = position[-1].to(last.dtype)
        return VisionFeatures(fpn=tuple(levels), position=tuple(position))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor, *, state: Hashable = None) -> TextFeatures:
        """Phrase features, independent of any image: computed once per phrase where the text encoder is frozen.

        Args:
            input_ids: (P, T) int64, as the processor's tokenizer makes them, in main memory.
            attention_mask: (P, T), nonzero for real tokens; there too.
            state: names the weights of an adapter of the text encoder, if there is one: its features are kept, too,
                without gradients. None computes them anew.
        """
        device = self.base.detr_decoder.query_embed.weight.device
        is_frozen = kept_text.is_frozen(self.base)
        if is_frozen or state is not None:
            return kept_text.features_of(self.base, input_ids, attention_mask, device, None if is_frozen else state)
        own = self.base.text_projection.weight.device
        mask = to_device(attention_mask, own)
        states = self.base.get_text_features(input_ids=to_device(input_ids, own), attention_mask=mask).pooler_output
        return TextFeatures(states=states, mask=mask.bool()).to(device)

    def text_only_geometry(self, vision: VisionFeatures) -> tuple[Tensor, Tensor]:
        """Geometry tokens of a prompt without boxes, for any phrase: (B, 2, C), and which of them are real, (B, 2).

        They depend on an adapter of the geometry encoder.
        """
        return self.geometry(vision, None, None)

    def geometry(
        self, vision: VisionFeatures, boxes: Tensor | None, box_labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Geometry tokens of exemplar boxes (B, K, 4) on B images, and which of them are real: see :meth:`detect`."""
        return self._geometry(vision.fpn[-1], vision.position[-1], boxes, box_labels)

    def detect(
        self,
        vision: VisionFeatures,
        text: TextFeatures,
        image_index: Tensor,
        boxes: Tensor | None = None,
        box_labels: Tensor | None = None,
        *,
        masks: bool = True,
        one_to_many: bool = True,
    ) -> Detections:
        """Detects the objects of each phrase in its image.

        Args:
            vision: features of B images.
            text: features of P phrases.
            image_index: (P,) int64 in [0, B): the image of each phrase; on the host nothing waits for a GPU.
            boxes: (P, K, 4) exemplar boxes, cxcywh in [0, 1], or None.
            box_labels: (P, K) int64: 1 objects like this one, 0 none like this one, -10 padding; None takes every box
                as positive.
            masks: whether to make the masks of all queries; without, :attr:`Detections.mask_head` makes those that are
                asked for.
            one_to_many: whether to have the one-to-many half of the queries in training mode.

        Returns:
            Detections of all L decoder layers; logits, boxes and presence in float32.
        """
        phrases, halves = len(text.states), 2 if self.training and one_to_many else 1
        assert image_index.shape == (phrases,), f"expected one image per phrase ({phrases}), got {image_index.shape}"
        images = to_device(image_index, text.states.device)
        features = vision.fpn[-1][images]
        if boxes is None:
            # Once per image, not once per phrase.
            states, mask = (part[images] for part in vision.text_only_geometry or self.text_only_geometry(vision))
        else:
            states, mask = self._geometry(features, vision.position[-1][images], boxes, box_labels)
        prompt, prompt_mask = torch.cat((text.states, states), dim=1), torch.cat((text.mask, mask), dim=1)
        attention = self._prompt_attention(prompt, prompt_mask)
        # Sine embeddings are those of a grid, the same for every image.
        encoded, position = self._encode(features, vision.position[-1][:1], prompt, attention)
        size_hw = (features.shape[-2], features.shape[-1])
        decoder = Decoder(self.base.detr_decoder, encoded, position, size_hw, prompt, attention, self._run)
        queries, reference, presence = decoder.predict(self._first_boxes(phrases, halves))
        logits = self.base.dot_product_scoring(queries, prompt, prompt_mask).squeeze(-1)
        mask_head = MaskHead(
            decoder=self.base.mask_decoder,
            queries=queries[-1],
            fpn=vision.fpn,
            image_index=image_index,
            image=encoded,
            prompt=prompt,
            prompt_attention=attention,
            run=self._run,
            autocast=_current_autocast(encoded.device),
        )
        return self._assemble(logits.float(), reference.float(), presence.float(), mask_head, masks, halves)

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

    def _first_boxes(self, phrases: int, halves: int) -> Tensor:
        """The learned boxes (P, N, 4) from which the queries start, once for each half."""
        learned = self.base.detr_decoder.reference_points.weight.repeat(halves, 1)
        return learned.sigmoid().expand(phrases, -1, -1)

    def _encode(
        self, features: Tensor, position: Tensor, prompt: Tensor, prompt_attention: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The DETR encoder: maps (P, C, H, W) and their position (1, C, H, W), both as (.., H * W, C), encoded."""
        hidden, position = features.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)
        for layer in self.base.detr_encoder.layers:
            hidden = self._run(layer, hidden, prompt, position, prompt_attention)
        return hidden, position

    def _prompt_attention(self, prompt: Tensor, prompt_mask: Tensor) -> Tensor | None:
        """The prompt's attention mask for any number of queries, in the form that the model's attention takes."""
        from transformers.masking_utils import create_bidirectional_mask

        if self.base.detr_encoder.config._attn_implementation == "sdpa":
            return prompt_mask[:, None, None]  # the same, without reading whether any token is padding
        attention: Tensor | None = create_bidirectional_mask(
            config=self.base.detr_encoder.config,
            inputs_embeds=prompt[:, :1],
            attention_mask=prompt_mask,
            encoder_hidden_states=prompt,
        )
        return attention

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function; with gradient checkpointing it keeps the arguments alone for the backward pass."""
        if self._checkpointed and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def _assemble(
        self, logits: Tensor, boxes: Tensor, presence: Tensor, mask_head: MaskHead, with_masks: bool, halves: int
    ) -> Detections:
        """Splits the queries into the one-to-one and the one-to-many half."""
        count = self.base.detr_decoder.config.num_queries
        masks, semantic = mask_head.every_query() if with_masks else (None, None)
        o2m = None
        if halves == 2:
            o2m_masks = None if masks is None else masks[:, count:]
            o2m = Detections(logits[..., count:], boxes[:, :, count:], None, o2m_masks, None)
        return Detections(
            logits=logits[..., :count],
            boxes=boxes[:, :, :count],
            presence=presence,
            masks=None if masks is None else masks[:, :count],
            semantic=semantic,
            one_to_many=o2m,
            mask_head=None if with_masks else mask_head,
        )


def _current_autocast(device: torch.device) -> torch.autocast:
    """The autocast that is in effect, to be entered again."""
    kind = device.type
    return torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))
