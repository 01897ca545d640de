"""Describes the small SAM 3 that ships as ``base="demo"``: the same classes as facebook/sam3 at tiny sizes.

    python scripts/make_demo_model.py --out FOLDER [--seed 0]

The folder contains a ``Sam3Model`` in half precision and a ``Sam3Processor`` with a byte-level CLIP tokenizer. The
weights are random; `pretrain_demo_model.py` builds on :func:`demo_config`, :func:`demo_processor` and
:func:`initialize`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import nn
from transformers import CLIPTokenizer, Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor
from transformers.convert_slow_tokenizer import bytes_to_unicode

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "assets" / "demo" / "model"
IMAGE_SIZE = 168
PATCH_SIZE = 14
GRID = IMAGE_SIZE // PATCH_SIZE
MAX_TOKENS = 32  # Sam3Processor pads every phrase to this length
START, END = "<|startoftext|>", "<|endoftext|>"

# Frequent English letter groups. Byte pair encoding builds each from left to right, so that most words
# become a handful of pieces instead of single letters; any other text falls back to bytes.
PIECES = """
    th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi
    ri ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc
    et ut ss so rs un lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv
    ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex ke ui ck pot hole ing and the ent ion
    ter est ers ati tion ment able ight ound ack oad ar car tree sign line side walk rack cut cover box ball
    ring round square star red green blue yellow white black gray brown dog cat bird fish hand head man per
    son bike bus cup bot tle chair tab leaf rock wood wall door win dow light lamp stone hat shoe bag
"""


def demo_config(hidden_size: int = 64, vision_size: int = 128, vision_layers: int = 6) -> Sam3Config:
    """The demo's architecture: 168 x 168 images, a 12 x 12 grid, masks of 48 x 48, 32 queries, 2.6 M parameters.

    Args:
        hidden_size: width of everything after the vision encoder, a multiple of 8.
        vision_size: width of the vision transformer, a multiple of 16.
        vision_layers: its depth; the middle and the last layer look at the whole image, the others at windows.
    """
    tokens = len(demo_vocabulary()[0])
    heads = {"hidden_size": hidden_size, "num_attention_heads": 4, "intermediate_size": 256, "dropout": 0.0}
    return Sam3Config(
        vision_config={
            "fpn_hidden_size": hidden_size,
            "backbone_feature_sizes": [[4 * GRID, 4 * GRID], [2 * GRID, 2 * GRID], [GRID, GRID]],
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": vision_size,
                "intermediate_size": 3 * vision_size,
                "num_hidden_layers": vision_layers,
                "num_attention_heads": 4,
                "image_size": IMAGE_SIZE,
                "pretrain_image_size": IMAGE_SIZE,
                "patch_size": PATCH_SIZE,
                "window_size": GRID // 2,
                "global_attn_indexes": [vision_layers // 2 - 1, vision_layers - 1],
            },
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": tokens,
            "bos_token_id": tokens - 2,
            "eos_token_id": tokens - 1,
            "pad_token_id": tokens - 1,
            "hidden_size": 128,
            "intermediate_size": 256,
            "projection_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": MAX_TOKENS,
            "hidden_act": "gelu",
        },
        geometry_encoder_config={**heads, "num_layers": 1},
        detr_encoder_config={**heads, "num_layers": 2},
        detr_decoder_config={**heads, "num_attention_heads": 8, "num_layers": 3, "num_queries": 32},
        mask_decoder_config={"hidden_size": hidden_size, "num_attention_heads": 4},
    )


def demo_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's layout at a small size: 256 bytes, 256 bytes that end a word, one token per merge, start, end."""
    symbols = list(bytes_to_unicode().values())
    tokens = dict.fromkeys(symbols + [symbol + "</w>" for symbol in symbols])
    merges: list[tuple[str, str]] = []
    for piece in PIECES.split():
        for symbols_of_piece in ([*piece], [*piece[:-1], piece[-1] + "</w>"]):
            left = symbols_of_piece[0]
            for right in symbols_of_piece[1:]:
                if left + right not in tokens:
                    merges.append((left, right))
                    tokens[left + right] = None
                left += right
    return {token: index for index, token in enumerate([*tokens, START, END])}, merges


def demo_processor() -> Sam3Processor:
    """The real processor's classes with the demo's image size and vocabulary."""
    vocabulary, merges = demo_vocabulary()
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
    images = Sam3ImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, mask_size={"height": 4 * GRID, "width": 4 * GRID}
    )
    return Sam3Processor(image_processor=images, tokenizer=tokenizer)


@torch.no_grad()
def initialize(model: Sam3Model, seed: int = 0) -> Sam3Model:
    """Random weights under which signals keep their size, so that gradients reach every part.

    transformers' own initialisation (standard deviation 0.02) fits wide layers; in narrow ones it lets
    every signal fade.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0.0, fan_in**-0.5, generator=generator)
        elif isinstance(module, nn.ConvTranspose2d):
            module.weight.normal_(0.0, module.in_channels**-0.5, generator=generator)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, 1.0, generator=generator)
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()
    positions = model.vision_encoder.backbone.embeddings.position_embeddings
    positions.normal_(0.0, 0.5, generator=generator)
    decoder = model.detr_decoder
    decoder.reference_points.weight.copy_(_spread_boxes(decoder.config.num_queries))
    # Zero in the reference, which trains the head; under a frozen base nothing would reach the decoder then.
    decoder.box_head.layer3.weight.mul_(0.2)
    return model


def _spread_boxes(count: int) -> torch.Tensor:
    """Logits (count, 4) of boxes cxcywh: centers spread evenly over the image, sizes of 0.1, 0.2 and 0.4."""
    index = torch.arange(count, dtype=torch.float32)
    golden = (math.sqrt(5) - 1) / 2
    centers = torch.stack(((index + 0.5) / count, (0.5 + index * golden) % 1.0), dim=-1)
    sizes = torch.tensor([0.1, 0.2, 0.4])[torch.arange(count) % 3]
    return torch.cat((0.1 + 0.8 * centers, sizes[:, None].expand(-1, 2)), dim=-1).logit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)  # assets/ holds the taught one
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = initialize(Sam3Model(demo_config()), arguments.seed)
    model.to(torch.float16).save_pretrained(arguments.out)
    demo_processor().save_pretrained(arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.iterdir())
    print(f"{arguments.out}: {model.num_parameters() / 1e6:.2f} M parameters, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
