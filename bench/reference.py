"""A training step of the heads, and of the vision encoder, beside the reference package's, at full width.

    python bench/reference.py [--part heads] [--grid 36] [--rounds 2] [--counts 5,5,0,0] [--layers 8]

Random weights, equal ones in the heads, float32, one thread; steps of all ways alternate. Heads are everything after
the towers, with the loss: the reference trains their weights, as it does; ours trains LoRA, with and without gradient
checkpointing, and, to compare like with like, all weights. The vision encoder, which the reference checkpoints, has the
same LoRA on both.
A grid of 72 is SAM 3's own 1008 pixels; smaller ones need less memory and time. --layers: of the vision encoder.
Prints processor time and peak memory beyond that before the step, and their ratios to the reference. Exits with 1 if
not one of our ways with LoRA keeps to both goals for the heads: half of the memory, 0.85 of the time.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import Sam3Config, Sam3Model

from bench.mask_loss import PeakMemory
from sam3_lora.config import AdapterConfig, LossConfig
from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.model import lora
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.structures import Targets, TextFeatures, VisionFeatures
from tests.parity import reference_loss, reference_model

MEMORY_GOAL, TIME_GOAL = 0.5, 0.85
M_MMAP_THRESHOLD = -3  # of malloc.h: larger blocks are mapped, and unmapped when they are freed
PATCH, FULL_LAYERS, GLOBAL_LAYERS = 14, 32, (7, 15, 23, 31)
HEADS = ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "scoring")
Step = Callable[[], float]


def model(grid: int, layers: int) -> Sam3Model:
    """SAM 3 for images of grid x 14 pixels with so many vision layers, 0 for a tiny tower; a tiny text encoder."""
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision: dict[str, Any] = {"model_type": "sam3_vit_model", "image_size": grid * PATCH}
    here = [layer for layer in GLOBAL_LAYERS if layer < layers]
    vision |= {"num_hidden_layers": layers, "global_attn_indexes": here} if layers else {**tower}
    text = {"model_type": "clip_text_model", "vocab_size": 64, "bos_token_id": 62, "eos_token_id": 63, **tower}
    sizes = [[grid * scale] * 2 for scale in (4, 2, 1)]
    return Sam3Model(
        Sam3Config(vision_config={"backbone_config": vision, "backbone_feature_sizes": sizes}, text_config=text)
    )


def without_dropout(module: nn.Module) -> None:
    for one in module.modules():
        if isinstance(one, nn.Dropout):
            one.p = 0.0
        elif isinstance(one, nn.MultiheadAttention):
            one.dropout = 0.0


def features(grid: int, phrases: int) -> tuple[VisionFeatures, TextFeatures]:
    """Of one image, with gradients, as if vision were trained."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    fpn = tuple(random(1, 256, grid * scale, grid * scale).requires_grad_() for scale in (4, 2, 1))
    position = tuple(random(1, 256, grid * scale, grid * scale) for scale in (4, 2, 1))
    mask = (torch.arange(32) < 5).expand(phrases, -1)
    return VisionFeatures(fpn, position), TextFeatures(random(phrases, 32, 256), mask)


def targets_of(counts: list[int], size: int) -> Targets:
    """Rectangles around the center that overlap, so that some queries come near."""
    generator, total = torch.Generator().manual_seed(0), sum(counts)
    centers = 0.5 + 0.1 * (torch.rand(total, 2, generator=generator) - 0.5)
    boxes = torch.cat((centers, 0.45 + 0.1 * torch.rand(total, 2, generator=generator)), 1)
    masks = torch.zeros(total, size, size, dtype=torch.bool)
    for mask, (x, y, w, h) in zip(masks, (boxes * size).tolist(), strict=True):
        mask[int(y - h / 2) : int(y + h / 2), int(x - w / 2) : int(x + w / 2)] = True
    every = torch.ones(len(counts), dtype=torch.bool)
    return Targets(boxes, torch.tensor(counts), masks, torch.ones(total, dtype=torch.bool), every)


def heads(grid: int, counts: list[int]) -> dict[str, Step]:
    """Steps of the heads by name; the reference's is first."""
    theirs = reference_model.build(0).train()
    vision, text = features(grid, len(counts))
    targets, index = targets_of(counts, grid * PATCH), torch.zeros(len(counts), dtype=torch.long)
    loss = Sam3LossWrapper.from_config(LossConfig()).train()

    def ours(adapted: bool, checkpointed: bool) -> Step:
        base = model(grid, 0)
        reference_model.copy_into(theirs, base)
        if adapted:
            lora.attach(base.requires_grad_(False), AdapterConfig(components=list(HEADS), dropout=0.0))
        without_dropout(base)
        detector = Sam3Detector(base).train()
        detector.gradient_checkpointing(checkpointed)

        def step() -> float:
            total = loss(detector.detect(vision, text, index, masks=False), targets).total
            total.backward()
            detector.zero_grad()
            return total.item()

        return step

    steps = {"reference": _reference_heads(theirs, vision, text, index, targets)}
    steps["LoRA"] = ours(True, False)
    steps["LoRA, checkpointed"] = ours(True, True)
    steps["all weights"] = ours(False, False)
    return steps


def _reference_heads(
    theirs: nn.Module, vision: VisionFeatures, text: TextFeatures, index: Tensor, targets: Targets
) -> Step:
    from sam3.model.model_misc import SAM3Output

    wrapper, objects = reference_loss.loss_wrapper(), len(targets.boxes)
    wanted: dict[str, Any] = dict(reference_loss.as_targets(targets))
    wanted |= {
        "positive_map": torch.ones(objects, 1),
        "semantic_masks": None,
        "object_ids_packed": torch.arange(objects),
    }
    theirs.back_convert = lambda answer: answer  # type: ignore[assignment]
    theirs.matcher = reference_loss.hungarian_matcher()
    backbone = {
        "backbone_fpn": list(vision.fpn),
        "vision_pos_enc": list(vision.position),
        "language_features": text.states.transpose(0, 1),
        "language_mask": ~text.mask,
    }
    asked = SimpleNamespace(text_ids=torch.arange(len(index)), img_ids=index)
    focal = functools.partial(reference_loss.loss_fns.sigmoid_focal_loss, triton=False)
    coordinates = staticmethod(lambda height, width, device: reference_model._coordinates(height, width))

    def step() -> float:
        with (
            mock.patch.object(Tensor, "pin_memory", lambda tensor: tensor),
            mock.patch.object(reference_loss.loss_fns, "sigmoid_focal_loss", focal),
            mock.patch.object(reference_model.decoders.TransformerDecoder, "_get_coords", coordinates),
        ):
            out = theirs.forward_grounding(backbone, asked, wanted, theirs._get_dummy_prompt(len(index)))  # type: ignore[operator]
            for layer in (out, *out["aux_outputs"]):
                layer["Q_det"] = layer["Q_det_o2m"] = layer["pred_logits"].shape[1]  # all queries detect, none tracks
            stages = SAM3Output(iter_mode=SAM3Output.IterMode.LAST_STEP_PER_STAGE)
            stages.append([out])
            total: Tensor = wrapper(stages, [wanted])["core_loss"]
            total.backward()
        theirs.zero_grad()
        return total.item()

    return step


def vision_encoder(grid: int, layers: int) -> dict[str, Step]:
    """Steps of the vision encoder with its neck by name; the reference's, which it checkpoints, is first."""
    import peft
    from sam3 import model_builder
    from sam3.model.vitdet import ViT

    here = tuple(layer for layer in GLOBAL_LAYERS if layer < layers)
    trunk = ViT(
        img_size=grid * PATCH, pretrain_img_size=336, patch_size=PATCH, embed_dim=1024, depth=layers, num_heads=16,
        mlp_ratio=4.625, norm_layer="LayerNorm", drop_path_rate=0.0, qkv_bias=True, use_abs_pos=True, tile_abs_pos=True,
        global_att_blocks=here, rel_pos_blocks=(), use_rope=True, use_interp_rope=True, window_size=24,
        pretrain_use_cls_token=True, retain_cls_token=False, ln_pre=True, ln_post=False, return_interm_layers=False,
        bias_patch_embed=False,
    )  # fmt: skip
    theirs = model_builder._create_vit_neck(model_builder._create_position_encoding(), trunk).requires_grad_(False)
    settings = peft.LoraConfig(r=16, lora_alpha=32, target_modules=["qkv", "proj", "fc1", "fc2"])
    peft.inject_adapter_in_model(settings, theirs.trunk.blocks)
    theirs.train()
    base = model(grid, layers).requires_grad_(False)
    lora.attach(base, AdapterConfig(components=["vision_encoder"], rank=16, dropout=0.0))
    detector = Sam3Detector(base).train()
    images = torch.randn(1, 3, grid * PATCH, grid * PATCH, generator=torch.Generator().manual_seed(0))

    def train(owner: nn.Module, maps: Any) -> float:
        total = sum((level * level).mean() for level in maps)
        total.backward()
        owner.zero_grad()
        return total.item()

    def ours(checkpointed: bool) -> float:
        detector.gradient_checkpointing(checkpointed)
        return train(detector, detector.encode_images(images).fpn)

    return {
        "reference": lambda: train(theirs, theirs(images)[0][:3]),
        "LoRA, checkpointed": lambda: ours(True),
        "LoRA": lambda: ours(False),
    }


def measure(steps: dict[str, Step], rounds: int) -> dict[str, tuple[float, int]]:
    """The least processor seconds and the largest peak of each way; ways alternate."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in steps}
    for number in range(rounds):
        for name, step in steps.items():
            gc.collect()
            _return_freed_memory()
            began = time.process_time()
            with PeakMemory("cpu") as memory:
                total = step()
            found[name].append((time.process_time() - began, memory.extra))
            seconds, extra = found[name][-1]
            print(
                f"  round {number} {name:20} loss {total:9.3f}  {seconds:7.1f} s  {extra / 2**30:6.2f} GiB", flush=True
            )
    return {name: (min(s for s, _ in values), max(m for _, m in values)) for name, values in found.items()}


def _free_at_once() -> None:
    """Has the C library return what is freed: otherwise resident memory holds blocks that nothing uses any more."""
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 65_536)


def _return_freed_memory() -> None:
    """Gives back what the C library holds of earlier steps, which would hide a part of the next one's."""
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("heads", "vision"), action="append", help="only this one")
    parser.add_argument("--grid", type=int, default=36, help="patches along a side")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--counts", default="5,5,0,0", help="objects of each phrase")
    parser.add_argument("--layers", type=int, default=8, help=f"of the vision encoder, at most {FULL_LAYERS}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    _free_at_once()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    missed = False
    for part in arguments.part or ("heads", "vision"):
        if part == "heads":
            steps = heads(arguments.grid, [int(count) for count in arguments.counts.split(",")])
        else:
            steps = vision_encoder(arguments.grid, arguments.layers)
        print(f"{part}, {arguments.grid} x {arguments.grid} patches ({arguments.grid * PATCH} pixels)")
        measured = measure(steps, arguments.rounds)
        seconds, extra = measured["reference"]
        ratios = {name: (ours / seconds, size / extra) for name, (ours, size) in measured.items()}
        for name, (of_time, of_memory) in ratios.items():
            print(f"  {name:20} time {of_time:5.2f}  memory {of_memory:5.2f}  of the reference")
        with_lora = [ratio for name, ratio in ratios.items() if name.startswith("LoRA")]
        kept = any(of_time <= TIME_GOAL and of_memory <= MEMORY_GOAL for of_time, of_memory in with_lora)
        if part == "heads" and not kept:
            print(f"  goal missed: {MEMORY_GOAL} of the memory at no more than {TIME_GOAL} of the time")
            missed = True
    sys.exit(missed)


if __name__ == "__main__":
    main()
