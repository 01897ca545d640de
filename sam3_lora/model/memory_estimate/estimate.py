"""Peak GPU memory of a training step, estimated from architecture and settings alone, before any weight is loaded.

What each layer keeps for the backward pass is written out in bytes per token and channel. The sums are compared with
the memory that ``bench/full_size.py`` counts in fit()'s own step (``tests/model/test_memory_estimate.py``).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sam3_lora.config import AdapterConfig, Precision
from sam3_lora.model.base_files.architecture import skeleton
from sam3_lora.model.image_size import image_size_of
from sam3_lora.model.lora import Layer, adaptable_layers, component_of
from sam3_lora.model.precision import is_converted

if TYPE_CHECKING:
    from transformers import Sam3Config

OVERHEAD = "CUDA overhead"
# The CUDA context and the workspaces of its libraries; and the share of the rest that fragmentation costs.
CONTEXT_BYTES, FRAGMENTATION = 700 * 2**20, 0.1
PRESENT_PHRASES = 2  # of an image, with objects
MASK_MATCHES = 3  # queries compared with an object's mask: one, and on average two one-to-many
MASKS_AT_ONCE, MASK_BUFFERS = 4, 8  # of the mask loss, which goes through them in chunks, in float32
# Bytes per trained number: itself in float32, its gradient, AdamW's two moments, and autocast's copy.
_ADAPTER_BYTES = 4 + 4 + 8


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes alive at the peak of a training step, by what they are; the largest first."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes that a GPU needs to have free."""
        return sum(self.parts.values())

    @property
    def counted(self) -> int:
        """The same without :data:`OVERHEAD`: PyTorch's own allocations."""
        return self.total - self.parts[OVERHEAD]


def estimate_memory(
    config: Sam3Config,
    lora: AdapterConfig,
    *,
    precision: Precision,
    gradient_checkpointing: bool,
    images: int,
    phrases_per_image: int,
    objects_per_phrase: float = 5,
    cached_vision: bool = False,
) -> MemoryEstimate:
    """Peak GPU memory of a training step.

    Args:
        config: the base's architecture.
        lora: the adapter.
        precision: of the forward pass.
        gradient_checkpointing: whether layers are computed again in the backward pass.
        images: in a batch.
        phrases_per_image: with those that have no object.
        objects_per_phrase: of two phrases of each image.
        cached_vision: whether the vision backbone's output is read from disk.
    """
    return _Step(
        config,
        _architecture(_key(config)),
        lora,
        precision,
        gradient_checkpointing,
        images,
        images * phrases_per_image,
        objects_per_phrase,
        cached_vision,
    ).estimate()


@dataclass(frozen=True)
class _Architecture:
    """The sizes of a base model."""

    layers: tuple[Layer, ...]  # that can be adapted
    converted: dict[str, int]  # numbers in weights that autocast converts, by component; "" for others
    float32: dict[str, int]  # other numbers


def _key(config: Sam3Config) -> str:
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


@lru_cache(maxsize=16)
def _architecture(key: str) -> _Architecture:
    """Sizes of an architecture, of which :func:`_key` is the key: half a second, once."""
    from transformers import Sam3Config

    model = skeleton(Sam3Config(**json.loads(key)))
    converted: Counter[str] = Counter()
    float32: Counter[str] = Counter()
    for name, module in model.named_modules():
        numbers = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        (converted if is_converted(name, module) else float32)[component_of(f"{name}.") or ""] += numbers
    return _Architecture(tuple(adaptable_layers(model)), dict(converted), dict(float32))


@dataclass(frozen=True)
class _Step:
    """A training step: what it keeps for the backward pass, and what it needs for a moment, in bytes."""

    config: Any  # Sam3Config
    architecture: _Architecture
    lora: AdapterConfig
    precision: Precision
    checkpointing: bool
    images: int
    phrases: int  # of all images
    objects_per_phrase: float
    cached_vision: bool

    def estimate(self) -> MemoryEstimate:
        """The memory at the step's largest moment."""
        vision, geometry, encoder, decoder = self._vision(), self._geometry(), self._encoder(), self._decoder()
        always = {"weights": self._weights(), "adapter and optimizer": self._adapter(), "batch": self._batch()}
        kept = {"vision encoder": vision.kept, "geometry encoder": geometry.kept}
        moments = []
        # Backwards, what later parts kept is free again.
        for name, part in (("DETR encoder", encoder), ("DETR decoder", decoder), ("masks", self._masks())):
            kept[name] = part.kept
            moments.append(always | kept | {"working memory": part.working})
        moments.append(always | {"vision encoder": vision.kept, "working memory": vision.working})
        largest = max(moments, key=lambda moment: sum(moment.values()))
        parts = {name: int(size) for name, size in sorted(largest.items(), key=lambda item: -item[1])}
        overhead = CONTEXT_BYTES + FRAGMENTATION * (sum(parts.values()) - parts["weights"])
        return MemoryEstimate(parts | {OVERHEAD: int(overhead)})

    @property
    def _number(self) -> int:
        """Bytes of a number in the precision of the forward pass."""
        return 4 if self.precision == "fp32" else 2

    @property
    def _tokens(self) -> int:
        """Patches of an image."""
        patch: int = self.config.vision_config.backbone_config.patch_size
        return (image_size_of(self.config) // patch) ** 2

    def _adapts(self, component: str) -> bool:
        return component in self.lora.components

    def _learns(self, *components: str) -> bool:
        """Whether gradients flow into one of these components."""
        return any(map(self._adapts, components))

    def _linear(self, component: str, kind: str, width: int, number: int | None = None) -> int:
        """Bytes per token that LoRA keeps of a linear layer's input: it, and the mask of its dropout."""
        if not self._adapts(component) or kind not in self.lora.modules:
            return 0
        return ((number or self._number) + (self.lora.dropout > 0)) * width + self._number * self.lora.rank

    def _attention(self, component: str, width: int, number: int | None = None) -> int:
        """The same for the four projections of an attention, and what it keeps itself."""
        projections = sum(
            self._linear(component, kind, width, number) for kind in ("q_proj", "k_proj", "v_proj", "o_proj")
        )
        return projections + 4 * (number or self._number) * width

    def _weights(self) -> int:
        """Frozen weights; the text encoder's are not on the GPU, unless it is adapted."""
        sizes = 0
        for numbers, size in ((self.architecture.converted, self._number), (self.architecture.float32, 4)):
            sizes += sum(
                size * count for name, count in numbers.items() if name != "text_encoder" or self._adapts(name)
            )
        return sizes

    def _adapter(self) -> int:
        selected = (layer for layer in self.architecture.layers if layer.component in self.lora.components)
        numbers = sum(layer.parameters(self.lora) for layer in selected if layer.kind in self.lora.modules)
        return numbers * (_ADAPTER_BYTES + (0 if self.precision == "fp32" else 2))

    def _batch(self) -> int:
        pixels = image_size_of(self.config) ** 2
        given = (
            2 * self.config.vision_config.backbone_config.hidden_size * self._tokens
            if self.cached_vision
            else 12 * pixels
        )
        return int(self.images * given + self._objects * pixels)

    @property
    def _objects(self) -> float:
        return self.images * min(PRESENT_PHRASES, self.phrases / self.images) * self.objects_per_phrase

    def _vision(self) -> _Memory:
        """The vision encoder's blocks, whose residual stream is float32, and its neck."""
        backbone, number = self.config.vision_config.backbone_config, self._number
        width, inner, tokens = backbone.hidden_size, backbone.intermediate_size, self.images * self._tokens
        channels = self.config.vision_config.fpn_hidden_size
        # The maps of three scales, their sine embeddings, and for the heads one of these in float32.
        maps = (16 + 4 + 1) * channels * number + 5 * channels * number + 4 * channels
        if self.cached_vision or not self._adapts("vision_encoder"):
            # A block computes, and what it computes is freed.
            return _Memory(tokens * maps, tokens * (2 * number * inner if not self.cached_vision else 0))
        name = "vision_encoder"
        block = (
            8 * width
            + self._attention(name, width)
            + self._linear(name, "mlp", width)
            + number * inner
            + self._linear(name, "mlp", inner)
        )
        neck = tokens * (maps + number * (13 * width + 21 * channels))
        blocks = backbone.num_hidden_layers
        if not self.checkpointing:
            return _Memory(tokens * blocks * block + neck, tokens * block / 2)
        return _Memory(tokens * (blocks - 1) * 4 * width + neck, tokens * block * 1.3)

    def _geometry(self) -> _Memory:
        """The geometry encoder, in float32: keys and values of the image's tokens."""
        geometry = self.config.geometry_encoder_config
        if not self._learns("vision_encoder", "geometry_encoder"):
            return _Memory(0, 0)
        width, name = geometry.hidden_size, "geometry_encoder"
        layer = self._linear(name, "k_proj", width, 4) + self._linear(name, "v_proj", width, 4) + 8 * width
        return _Memory(self.images * self._tokens * geometry.num_layers * layer, 0)

    def _encoder(self) -> _Memory:
        """The DETR encoder, over the tokens of every phrase's image."""
        encoder, number, name = self.config.detr_encoder_config, self._number, "detr_encoder"
        width, inner, tokens = encoder.hidden_size, encoder.intermediate_size, self.phrases * self._tokens
        dropouts = 3 * width if encoder.dropout else 0
        cross = self._linear(name, "q_proj", width) + self._linear(name, "o_proj", width) + 2 * number * width
        mlp = self._linear(name, "mlp", width) + number * inner + self._linear(name, "mlp", inner)
        layer = 3 * 4 * width + dropouts + self._attention(name, width) + cross + mlp
        if not self._learns("vision_encoder", "geometry_encoder", "text_encoder", name):
            return _Memory(tokens * number * width, tokens * (number * inner + 12 * width))
        if not self.checkpointing:
            return _Memory(tokens * encoder.num_layers * layer, tokens * layer / 3)
        return _Memory(tokens * encoder.num_layers * number * width, tokens * layer * 1.2)

    def _decoder(self) -> _Memory:
        """The DETR decoder: box biases, keys and values of every phrase's image, and twice the queries."""
        decoder, number, name = self.config.detr_decoder_config, self._number, "detr_decoder"
        width, inner = decoder.hidden_size, decoder.intermediate_size
        tokens, queries = self.phrases * self._tokens, self.phrases * 2 * decoder.num_queries
        bias = queries * decoder.num_attention_heads * self._tokens * number
        image = self._linear(name, "k_proj", width) + self._linear(name, "v_proj", width) + 2 * number * width
        mlp = self._linear(name, "mlp", width) + number * inner + self._linear(name, "mlp", inner)
        attentions = 2 * self._attention(name, width) - 2 * number * width
        query = attentions + mlp + (36 if decoder.dropout else 32) * width
        layer = bias + tokens * image + queries * query
        results = queries * decoder.num_layers * (12 + 6) * width  # queries, box head, and scores
        if not self.checkpointing:
            return _Memory(decoder.num_layers * layer + results, bias)
        return _Memory(results, layer + bias)

    def _masks(self) -> _Memory:
        """The masks of matched queries, phrase by phrase, and their loss."""
        number = self._number
        pixels = 16 * self._tokens
        channels = self.config.mask_decoder_config.hidden_size
        matched = self._objects * MASK_MATCHES * pixels * (number + 4)
        loss = MASKS_AT_ONCE * MASK_BUFFERS * 4 * image_size_of(self.config) ** 2
        map_of_phrase = channels * pixels
        # Convolutions keep their inputs, group norms theirs in float32; without gradients the last map alone is kept.
        learns = self._learns("vision_encoder", "geometry_encoder", "text_encoder", "detr_encoder", "mask_decoder")
        phrase = map_of_phrase * (8 + 4 * number if learns else number)
        working = map_of_phrase * (8 + 2 * number)
        if not self.checkpointing:
            present = self.images * min(PRESENT_PHRASES, self.phrases / self.images)
            return _Memory(matched + present * phrase, max(loss, working / 2))
        return _Memory(matched, max(loss, phrase + working / 2 if learns else working))


@dataclass(frozen=True)
class _Memory:
    """Bytes of a part of the model."""

    kept: float  # for the backward pass
    working: float  # while it computes, beside what is kept
