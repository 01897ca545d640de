"""SAM 3's DETR decoder with the predictions of every layer and the one-to-many queries of training.

``transformers.Sam3DetrDecoder`` keeps neither the boxes' second look forward nor the second half of the queries; this
module composes its submodules as ``TransformerDecoder`` in sam3/model/decoder.py does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from sam3_lora.model.mask_head import Run

if TYPE_CHECKING:
    from transformers.models.sam3.modeling_sam3 import Sam3DetrDecoder, Sam3DetrDecoderLayer


@dataclass(frozen=True)
class Decoder:
    """The decoder with the encoded images and prompts of P phrases."""

    decoder: Sam3DetrDecoder
    image: Tensor  # (P, H * W, C)
    position: Tensor  # (1 or P, H * W, C)
    size_hw: tuple[int, int]
    prompt: Tensor  # (P, T, C)
    prompt_attention: Tensor | None  # the prompt's attention mask
    run: Run  # of each layer

    def predict(self, first_boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (L, P, N, C), boxes (L, P, N, 4) and presence (L, P).

        Boxes look forward twice (DINO, Zhang et al., 2022): the decoder continues from a detached box, but the box a
        layer predicts starts from the previous layer's box with its gradient.

        Args:
            first_boxes: (P, N, 4) cxcywh in [0, 1], from which the queries start; N is Q, or 2 Q with the one-to-many
                queries of training.
        """
        from transformers.models.sam3.modeling_sam3 import inverse_sigmoid

        decoder, (phrases, count, _) = self.decoder, first_boxes.shape
        first = decoder.query_embed.weight.repeat(count // decoder.config.num_queries, 1)
        hidden = torch.cat((decoder.presence_token.weight, first)).expand(phrases, -1, -1)
        reference = steering = first_boxes
        queries, boxes, presence = [], [], []
        for layer in cast("list[Sam3DetrDecoderLayer]", decoder.layers):
            hidden = self.run(self._layer, layer, hidden, steering, self.image, self.prompt)
            normed = decoder.output_layer_norm(hidden[:, 1:])
            offset = decoder.box_head(normed)
            queries.append(normed)
            boxes.append((offset + inverse_sigmoid(reference)).sigmoid())
            presence.append(presence_logits(decoder, decoder.presence_layer_norm(hidden[:, 0])))
            reference = (offset + inverse_sigmoid(steering)).sigmoid()
            steering = reference.detach()
        return torch.stack(queries), torch.stack(boxes), torch.stack(presence)

    def _layer(
        self, layer: Sam3DetrDecoderLayer, hidden: Tensor, steering: Tensor, image: Tensor, prompt: Tensor
    ) -> Tensor:
        """One layer, (P, 1 + N, C) -> same, its queries at boxes (P, N, 4).

        Only the presence token and the first half of the queries attend to each other.
        """
        decoder = self.decoder
        # The presence token has no box: no position, and it looks at the whole image alike.
        query_position = pad(decoder.ref_point_head(decoder.position_encoding.encode_boxes(steering)), (0, 0, 1, 0))
        bias = decoder._get_rpb_matrix(steering, self.size_hw)  # type: ignore[arg-type]  # takes ints, too
        bias = pad(bias, (0, 0, 1, 0))  # (P, heads, 1 + N, H * W)

        split = decoder.config.num_queries + 1
        first, rest = hidden[:, :split], hidden[:, split:]
        positioned = first + query_position[:, :split]
        attended, _ = layer.self_attn(query=positioned, key=positioned, value=first)
        hidden = torch.cat((first + layer.self_attn_dropout(attended), rest), dim=1)
        hidden = layer.self_attn_layer_norm(hidden)

        attended, _ = layer.text_cross_attn(
            query=hidden + query_position, key=prompt, value=prompt, attention_mask=self.prompt_attention
        )
        hidden = layer.text_cross_attn_layer_norm(hidden + layer.text_cross_attn_dropout(attended))

        attended, _ = layer.vision_cross_attn(
            query=hidden + query_position, key=image + self.position, value=image, attention_mask=bias
        )
        hidden = layer.vision_cross_attn_layer_norm(hidden + layer.vision_cross_attn_dropout(attended))
        output: Tensor = layer.mlp_layer_norm(hidden + layer.mlp_dropout(layer.mlp(hidden)))
        return output


def presence_logits(decoder: Sam3DetrDecoder, tokens: Tensor) -> Tensor:
    """Presence logits (...) of presence tokens (..., C) as the head reads them, normed."""
    limit = decoder.clamp_presence_logit_max_val
    logits: Tensor = decoder.presence_head(tokens).clamp(-limit, limit).squeeze(-1)
    return logits
