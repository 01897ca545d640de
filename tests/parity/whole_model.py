"""The reference's whole image model with random weights, towers included, and its checkpoint in Meta's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from sam3_lora.model.base_files.architecture import skeleton
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.structures import Detections, TextFeatures, VisionFeatures
from tests.parity import reference_model as reference


@dataclass(frozen=True)
class Size:
    """What is smaller than in the published model; all widths are its own."""

    image_size: int = 1008
    window: int = 24
    vision_layers: int = 32
    global_layers: tuple[int, ...] = (7, 15, 23, 31)
    text_layers: int = 24
    vocabulary: int = 49408

    def config(self) -> dict[str, Any]:
        """The values of a config.json that describe the same."""
        vision = {
            "model_type": "sam3_vit_model",
            "window_size": self.window,
            "num_hidden_layers": self.vision_layers,
            "global_attn_indexes": list(self.global_layers),
        }
        text = {
            "model_type": "clip_text_model",
            "vocab_size": self.vocabulary,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "projection_dim": 512,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": 16,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
        }
        return {"model_type": "sam3", "vision_config": {"backbone_config": vision}, "text_config": text}


@dataclass(frozen=True)
class Asked:
    """Images, the tokens of phrases, and which image each is asked of."""

    pixel_values: Tensor  # (B, 3, S, S)
    input_ids: Tensor  # (P, 32), 0 after the last token, as the reference pads
    image_index: Tensor  # (P,)

    @property
    def attention_mask(self) -> Tensor:
        return (self.input_ids != 0).long()


@dataclass(frozen=True)
class Answer:
    """What a model makes of it: features of images and phrases, and detections."""

    vision: VisionFeatures
    text: TextFeatures
    detections: Detections


def build(size: Size, seed: int = 0) -> nn.Module:
    """The reference's image model as its own builder makes it, but smaller, with random weights and no dropout."""
    torch.manual_seed(seed)
    builder = reference.builder
    vision = _with(
        builder.ViT,
        img_size=size.image_size,
        window_size=size.window,
        depth=size.vision_layers,
        global_att_blocks=size.global_layers,
    )
    text = _with(builder.VETextEncoder, layers=size.text_layers, vocab_size=size.vocabulary)
    with (
        reference.on_cpu(),
        mock.patch.object(builder, "ViT", vision),
        mock.patch.object(builder, "VETextEncoder", text),
        mock.patch.object(builder, "SimpleTokenizer", lambda bpe_path: _tokens),
    ):
        model = builder.build_sam3_image_model(bpe_path="", device="cpu", load_from_HF=False)
    encoder = model.backbone.language_backbone.encoder
    nn.init.normal_(encoder.positional_embedding, std=0.02)  # these two are left empty
    nn.init.normal_(encoder.text_projection, std=0.02)
    reference.randomize(model)
    return model


def _with(made: Callable[..., nn.Module], **values: Any) -> Callable[..., nn.Module]:
    return lambda **options: made(**{**options, **values})


def _tokens(texts: list[str], context_length: int) -> Tensor:
    """Instead of a tokenizer: texts that are lists of tokens."""
    return torch.tensor([json.loads(text) for text in texts])


def meta_state(model: nn.Module) -> dict[str, Tensor]:
    """Its weights as Meta's checkpoints name them, with something of a tracker beside them."""
    state = {f"detector.{name}": value for name, value in model.state_dict().items()}
    return state | {"tracker.maskmem_backbone.out_proj.weight": torch.randn(4, 4)}


def save_checkpoint(model: nn.Module, folder: Path) -> Path:
    """Writes it as sam3.pt into a folder."""
    torch.save(meta_state(model), folder / "sam3.pt")
    return folder / "sam3.pt"


def save_processor(size: Size, folder: Path) -> None:
    """SAM 3's image processor, and a tokenizer of letters that has the size of the model's vocabulary."""
    from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Processor

    tokens = [*map(chr, range(97, 123)), *(f"<{number}>" for number in range(size.vocabulary - 28))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    Sam3Processor(Sam3ImageProcessor(), tokenizer).save_pretrained(folder)


def make_asked(size: Size, images: int = 1, phrases: int = 2) -> Asked:
    """Random images, and phrases of random tokens between those of begin and end, which are the last two."""
    generator = torch.Generator().manual_seed(3)
    end = size.vocabulary - 1
    ids = torch.zeros(phrases, 32, dtype=torch.long)
    for row, length in enumerate(torch.randint(2, 8, (phrases,), generator=generator).tolist()):
        ids[row, 0], ids[row, length] = end - 1, end
        ids[row, 1:length] = torch.randint(1, end - 1, (length - 1,), generator=generator)
    pixels = torch.rand(images, 3, size.image_size, size.image_size, generator=generator) * 2 - 1
    return Asked(pixels, ids, torch.arange(phrases) % images)


@torch.no_grad()
def ask_reference(model: nn.Module, asked: Asked) -> Answer:
    images = model.backbone.forward_image(asked.pixel_values)
    captions = [json.dumps(row) for row in asked.input_ids.tolist()]
    phrases = model.backbone.forward_text(captions, device="cpu")
    vision = VisionFeatures(tuple(images["backbone_fpn"]), tuple(images["vision_pos_enc"]))
    text = TextFeatures(phrases["language_features"].transpose(0, 1), ~phrases["language_mask"])
    features = reference.Features(vision, text, asked.image_index)
    return Answer(vision, text, reference.detect(model, features))


@torch.no_grad()
def ask_ours(detector: Sam3Detector, asked: Asked) -> Answer:
    vision = detector.encode_images(asked.pixel_values)
    text = detector.encode_text(asked.input_ids, asked.attention_mask)
    return Answer(vision, text, detector.detect(vision, text, asked.image_index))


def differences(actual: Answer, expected: Answer) -> dict[str, float]:
    """The largest difference of each output as a share of the range of its values."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in ("fpn", "position"):
        levels = zip(getattr(actual.vision, name), getattr(expected.vision, name), strict=True)
        pairs |= {f"{name} {level}": pair for level, pair in enumerate(levels)}
    assert torch.equal(actual.text.mask, expected.text.mask)
    real = expected.text.mask
    pairs["text"] = actual.text.states[real], expected.text.states[real]
    ours, theirs = actual.detections, expected.detections
    for name in ("logits", "boxes", "presence"):
        # The reference answers with the last layer alone when it does not train.
        pairs[name] = getattr(ours, name)[-1:], getattr(theirs, name)[-1:]
    for name in ("masks", "semantic"):
        pairs[name] = getattr(ours, name), getattr(theirs, name)
    return {name: _difference(*pair) for name, pair in pairs.items()}


def _difference(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    spread = (expected.amax() - expected.amin()).clamp(min=1e-12)
    return float((actual - expected).abs().amax() / spread)


QUICK = Size(
    image_size=168, window=6, vision_layers=2, global_layers=(1,), text_layers=2, vocabulary=1024
)  # 2 x 2 windows
DEEP = Size(image_size=336)
FULL = Size()


def published_shapes() -> dict[str, torch.Size]:
    """Name and shape of every weight of SAM 3 in transformers."""
    from transformers import Sam3Config

    return {name: weight.shape for name, weight in skeleton(Sam3Config()).state_dict().items()}
