"""Mask logits of chosen queries: SAM 3's mask decoder, run for the phrases that are asked for and for no other.

At SAM 3's size, the pixel decoder keeps 130 MB per phrase in bf16, and most phrases of a batch need no mask: training
compares masks of matched queries only, inference shows those above a threshold. Masks of one phrase equal those of
``transformers.Sam3MaskDecoder``, to whose submodules this module calls, so that an adapter acts as it does there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sam3_lora.structures import to_device

if TYPE_CHECKING:
    from transformers.models.sam3.modeling_sam3 import Sam3MaskDecoder

# Calls a function with arguments; with gradient checkpointing it keeps these alone for the backward pass.
Run = Callable[..., Any]


@dataclass(frozen=True)
class MaskHead:
    """The mask decoder with the features of one forward pass; see :attr:`sam3_lora.structures.Detections.mask_head`.

    It computes in the precision of that forward pass, wherever it is called.
    """

    decoder: Sam3MaskDecoder
    queries: Tensor  # (P, N, C) of the last decoder layer; N is Q, in training 2 Q
    fpn: tuple[Tensor, ...]  # maps of the B images (B, C, Hi, Wi), finest first; the coarsest gives its size only
    image_index: Tensor  # (P,), on the host if nothing is to wait for a GPU
    image: Tensor  # (P, H * W, C), what the DETR encoder has made of the coarsest map
    prompt: Tensor  # (P, T, C)
    prompt_attention: Tensor | None  # the prompt's attention mask, its first dimension P
    run: Run
    autocast: torch.autocast  # of the forward pass

    def __call__(self, phrase_index: Tensor, query_index: Tensor) -> Tensor:
        """Mask logits (M, h, w) of M queries; the pixel decoder runs once per phrase among them.

        Args:
            phrase_index: (M,) in [0, P); on the host, or a GPU is waited for.
            query_index: (M,) in [0, N).
        """
        if not len(phrase_index):
            return self.queries.new_zeros((0, *self.fpn[0].shape[-2:]))
        # Neighbors of one phrase stay together, so that the answer is put together from few pieces.
        pieces = [(phrase, len(list(same))) for phrase, same in groupby(phrase_index.tolist())]
        lengths = [length for _, length in pieces]
        asked = torch.split(to_device(query_index, self.queries.device), lengths)
        places_of: dict[int, list[int]] = {}
        for place, (phrase, _) in enumerate(pieces):
            places_of.setdefault(phrase, []).append(place)
        queries, images = self.queries.unbind(), self.image_index.tolist()
        masks = list(asked)
        for phrase, places in places_of.items():
            chosen = queries[phrase][torch.cat([asked[place] for place in places])]
            made = self._run(self._masks, chosen, phrase, images[phrase])
            for place, piece in zip(places, torch.split(made, [lengths[place] for place in places]), strict=True):
                masks[place] = piece
        return torch.cat(masks)

    def every_query(self) -> tuple[Tensor, Tensor]:
        """Mask logits (P, N, h, w) and semantic logits (P, 1, h, w)."""
        made = [
            self._run(self._masks_and_semantic, self.queries[phrase], phrase, image)
            for phrase, image in enumerate(self.image_index.tolist())
        ]
        if not made:
            size_hw = self.fpn[0].shape[-2:]
            return self.queries.new_zeros((*self.queries.shape[:2], *size_hw)), self.queries.new_zeros((0, 1, *size_hw))
        return torch.stack([masks for masks, _ in made]), torch.stack([semantic for _, semantic in made])

    def _run(self, function: Callable[..., Any], queries: Tensor, phrase: int, image: int) -> Any:
        """Calls a function with queries (K, C), the features of their phrase and the maps of its image."""
        one = slice(phrase, phrase + 1)
        attention = None if self.prompt_attention is None else self.prompt_attention[one]
        fine = (level[image : image + 1] for level in self.fpn[:-1])  # views: the phrases of an image share its maps
        with self.autocast:
            return self.run(function, queries, self.image[one], self.prompt[one], attention, *fine)

    def _masks(self, queries: Tensor, *features: Any) -> Tensor:
        """Mask logits (K, h, w)."""
        return self._compare(queries, self._pixels(*features))

    def _masks_and_semantic(self, queries: Tensor, *features: Any) -> tuple[Tensor, Tensor]:
        """Mask logits (K, h, w) and semantic logits (1, h, w)."""
        pixels = self._pixels(*features)
        return self._compare(queries, pixels), self.decoder.semantic_projection(pixels)[0]

    def _pixels(self, image: Tensor, prompt: Tensor, attention: Tensor | None, *fine: Tensor) -> Tensor:
        """The pixel decoder's map of one phrase, (1, C, h, w)."""
        decoder = self.decoder
        attended, _ = decoder.prompt_cross_attn(
            query=decoder.prompt_cross_attn_norm(image), key=prompt, value=prompt, attention_mask=attention
        )
        image = image + decoder.prompt_cross_attn_dropout(attended)
        coarse = image.transpose(1, 2).reshape(1, -1, *self.fpn[-1].shape[-2:])
        pixels: Tensor = decoder.pixel_decoder([*fine, coarse])
        return pixels

    def _compare(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """Mask logits (K, h, w): each query's product with each pixel."""
        projection = self.decoder.instance_projection
        # An adapter changes linear layers only. A 1 x 1 convolution W x + b of every pixel, multiplied with a query e,
        # is (e W) x + e b: the same number without another map of C channels.
        assert isinstance(projection, nn.Conv2d) and projection.bias is not None
        embedded = self.decoder.mask_embedder(queries)
        constant, factor = embedded @ projection.bias, embedded @ projection.weight.flatten(1)
        masks = torch.addmm(constant.unsqueeze(-1), factor, pixels[0].flatten(1))
        return masks.view(-1, *pixels.shape[-2:])
