"""Peak GPU memory of a training step of SAM 3 at full size, counted on fake tensors: no GPU and no weights are needed.

    python bench/full_size.py [--json] [--detail] [--case balanced_1x4] [--set lora.rank=32]

The step is fit()'s own: ``make_model`` attaches the adapter and sets checkpointing and precision, accelerate wraps the
detector, ``Setup.forward`` makes detections and loss, then come backward, clipping and optimizer. Three things are
given instead of computed: the base model is made on fake tensors instead of loaded; there is no data loader, but a
batch of images with phrases, two of which have five objects each; and matching, which depends on numbers, is replaced
by :func:`given_matches`: one query for each object one-to-one, and two one-to-many in the last layer.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Sam3Config, Sam3Model

from bench.fake_gpu import Count, Counting, fake_gpu, make_fake
from sam3_lora.config import RunConfig
from sam3_lora.data.samples import Batch
from sam3_lora.loss.matching import Matches
from sam3_lora.model import kept_text, lora
from sam3_lora.model.base import LoadedModel
from sam3_lora.model.image_size import image_size_of, with_image_size
from sam3_lora.recipes import preset
from sam3_lora.structures import Detections, Targets
from sam3_lora.train import setup as train_setup
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.optimizer import make_optimizer
from sam3_lora.train.resolve import resolve

GIB = 2**30
PRESENT, OBJECTS, PER_OBJECT_ONE_TO_MANY, TOKENS = 2, 5, 2, 32
ADAPTER = "LoRA and optimizer"
GOALS = {"balanced_1x4_gib": 3.5, "balanced_2x10_gib": 6.0, "all_but_vision_1x4_gib": 2.5}
ALL_BUT_VISION = [name for name in RunConfig().lora.components if name != "vision_encoder"]


@dataclass(frozen=True)
class Case:
    """A configuration to count."""

    preset: str = "balanced"
    images: int = 1
    phrases: int = 4  # of all images
    settings: dict[str, Any] = field(default_factory=dict)
    cached_vision: bool = False

    def config(self, more: dict[str, Any]) -> RunConfig:
        usual = {"training.precision": "bf16", "training.device": "cpu", "model.gradient_checkpointing": True}
        return preset(self.preset).with_settings(usual | self.settings | more)


CASES = {
    "balanced_1x4": Case(),
    "balanced_2x10": Case(images=2, phrases=10),
    "all_but_vision_1x4": Case(settings={"lora.components": ALL_BUT_VISION}),
    "minimal_1x4": Case(preset="minimal"),
    "fusion_1x4": Case(preset="fusion"),
    "fusion_1x4_cached": Case(preset="fusion", cached_vision=True),
    "balanced_1x4_kept": Case(settings={"model.gradient_checkpointing": False}),
    "as_shipped": Case(
        images=2, phrases=8, settings={"model.gradient_checkpointing": False, "training.precision": "fp32"}
    ),
}
MAIN = ("balanced_1x4", "balanced_2x10", "all_but_vision_1x4", "minimal_1x4")


def count_step(
    config: RunConfig,
    architecture: Sam3Config,
    images: int,
    phrases: int,
    cached_vision: bool = False,
    present: int = PRESENT,
) -> Count:
    """Counts the second training step: the optimizer has its state.

    Args:
        config: precision must be given and the device must be cpu, for which CUDA's memory is imitated.
        architecture: of the base model, with its own image size.
        images: in the batch.
        phrases: of all images.
        cached_vision: whether the vision backbone's output is given.
        present: the phrases with objects, the first ones.
    """
    architecture = with_image_size(copy.deepcopy(architecture), config.model.image_size)
    accelerator = make_accelerator(config.training)
    resolved, _ = resolve(config, accelerator.device)
    with torch.device("meta"):
        base = Sam3Model(architecture).requires_grad_(False).eval()
    counts = torch.tensor([OBJECTS] * present + [0] * (phrases - present))
    with _given(base), torch.device("meta"):
        model = train_setup.make_model(resolved, accelerator, lambda line: None, fresh=True)
    with _given(base), fake_gpu() as counting, ExitStack() as stack:
        counting.begin("weights")
        make_fake(model.detector, counting, ADAPTER, in_main_memory=_kept_there(base, counting, stack))
        model.components = train_setup.trainable_by_component(model.peft)
        optimizer = make_optimizer(model.peft, resolved.training)
        _attribute(counting, base)
        counting.begin("adapter", ADAPTER)
        loss = train_setup.Sam3LossWrapper.from_config(config.loss)
        objective = train_setup.Objective(model.detector, loss, config.replay.weight)
        wrapped, optimizer = train_setup.wrap(objective, optimizer, accelerator)
        _make_state(model.parameters, optimizer)
        setup: Any = train_setup.Setup(resolved, accelerator, None, model, objective, wrapped, None, optimizer, None)  # type: ignore[arg-type]
        setup.train_mode()
        loss.register_forward_pre_hook(lambda *_: counting.begin("forward", "loss"))
        counting.begin("batch")
        batch = _batch(images, counts, model.base.image_size)
        if cached_vision:
            batch = replace(batch, pixel_values=None, backbone=_backbone(architecture, images))
        counting.begin("forward")
        detections, report = setup.forward(setup.wrapped, batch)
        del detections
        counting.begin("backward", "loss")
        accelerator.backward(report.total)
        counting.begin("optimizer", ADAPTER)
        accelerator.clip_grad_norm_(model.parameters, config.training.max_grad_norm)
        optimizer.step()
    return counting.count(kept_in="backward")


class _OnMeta(LoadedModel):
    """A base model without weights, which stays on the meta device."""

    def to(self, device: torch.device | str) -> None:
        pass


@contextmanager
def _given(base: Sam3Model) -> Iterator[None]:
    """Replaces what cannot run without numbers: loading the base's weights, and matching."""
    loaded = _OnMeta(base, None, "fake")  # type: ignore[arg-type]  # no processor: the batch is given
    with (
        mock.patch.object(train_setup, "load_base", lambda *_, **__: loaded),
        mock.patch("sam3_lora.loss.wrapper.match", given_matches),
    ):
        yield


def _kept_there(base: Sam3Model, counting: Counting, stack: ExitStack) -> list[nn.Module]:
    """The modules that LoadedModel.to leaves in main memory, where they compute until the stack is closed."""
    if not kept_text.is_frozen(base):
        return []
    encode = kept_text._encode

    def uncounted(*args: Any, **options: Any) -> Any:
        with counting.main_memory():
            return encode(*args, **options)

    stack.enter_context(mock.patch.object(kept_text, "_encode", uncounted))
    return [base.get_submodule(name) for name in kept_text.MODULES]


def given_matches(
    detections: Detections, targets: Targets, with_one_to_many: bool = True
) -> tuple[list[Matches], list[Matches]]:
    """Stands in for sam3_lora.loss.matching.match: the first queries of a phrase match its objects."""
    layers, device = len(detections.logits), detections.logits.device
    matched = [Matches.of(_pairs(targets, per_object), device) for per_object in (1, PER_OBJECT_ONE_TO_MANY)]
    return [matched[0]] * layers, [matched[0]] * (layers - 1) + [matched[1]] if with_one_to_many else []


def _pairs(targets: Targets, per_object: int) -> np.ndarray:
    counts = targets.counts.tolist()
    pairs = [
        (phrase, query, sum(counts[:phrase]) + query % count)
        for phrase, count in enumerate(counts)
        for query in range(count * per_object)
    ]
    return np.array(pairs).T


def _batch(images: int, counts: Tensor, size: int) -> Batch:
    """A batch of phrases with so many objects each; what decides about computations is real, see fake_gpu."""
    phrases, objects = len(counts), sum(counts.tolist())
    tokens = torch.from_numpy(np.arange(1, phrases * TOKENS + 1).reshape(phrases, TOKENS))
    return Batch(
        pixel_values=torch.zeros(images, 3, size, size),
        image_index=torch.from_numpy(np.arange(phrases) * images // phrases),
        phrases=tuple(f"phrase {phrase}" for phrase in range(phrases)),
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        targets=Targets(
            boxes=torch.full((objects, 4), 0.5),
            counts=counts,
            masks=torch.zeros(objects, size, size, dtype=torch.bool),
            mask_valid=torch.from_numpy(np.ones(objects, dtype=bool)),
            exhaustive=torch.ones(phrases, dtype=torch.bool),
        ),
        images=(),
    )


def _backbone(architecture: Any, images: int) -> Tensor:
    vision = architecture.vision_config.backbone_config
    tokens = (image_size_of(architecture) // vision.patch_size) ** 2
    return torch.zeros(images, tokens, vision.hidden_size, dtype=torch.bfloat16)


def _make_state(parameters: list[nn.Parameter], optimizer: Any) -> None:
    """The optimizer's state, as after a first step."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _attribute(counting: Counting, base: nn.Module) -> None:
    """Makes the counting know which component computes.

    Forward a module's start tells it, backward the gradient of its result; "between" are copies for the next one.
    """

    def enter(component: str, *_: object) -> None:
        counting.part = component

    def leave(component: str, module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(partial(enter, component))
        if module is whole.get(component):
            counting.part = "between"

    whole = dict(base.named_children())

    for name, module in base.named_modules():
        component = lora.component_of(name + ".")
        if component:
            module.register_forward_pre_hook(partial(enter, component))
            module.register_forward_hook(partial(leave, component))


def show(name: str, count: Count, detail: bool) -> None:
    reached = count.reached_in
    print(f"\n{name}: {count.peak / GIB:.2f} GiB, reached in {reached.phase} of {reached.part}, {_describe(reached)}")
    kept: Counter[str] = Counter()
    for tag, size in count.at_peak.items():
        kept[tag.part if tag.part == ADAPTER else f"{tag.part}, {tag.phase}" if tag.part else tag.phase] += size
    for part, size in kept.most_common():
        print(f"  {part:44} {size / GIB:7.3f} GiB")
    if detail:
        largest: Counter[str] = Counter()
        for tag, size in count.at_peak.items():
            if tag.phase != "weights":
                largest[f"{tag.phase:9} {tag.part:18} {_describe(tag)}"] += size
        for key, size in largest.most_common(40):
            print(f"    {size / 2**20:8.1f} MiB  {key}")


def _describe(tag: Any) -> str:
    return f"{tag.operation} {'x'.join(map(str, tag.shape))} {tag.dtype}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object for a program")
    parser.add_argument("--case", choices=list(CASES), action="append", help="only these")
    parser.add_argument("--set", action="append", default=[], help="a further setting of every case")
    parser.add_argument("--detail", action="store_true", help="list what takes most at the peak")
    arguments = parser.parse_args()

    settings = dict(setting.split("=", 1) for setting in arguments.set)
    counted = {}
    for name in arguments.case or MAIN:
        began, case = time.monotonic(), CASES[name]
        count = count_step(case.config(settings), Sam3Config(), case.images, case.phrases, case.cached_vision)
        counted[f"{name}_gib"] = round(count.peak / GIB, 3)
        if not arguments.json:
            show(name, count, arguments.detail)
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    if arguments.json:
        print(json.dumps(counted))
    missed = {name: goal for name, goal in GOALS.items() if counted.get(name, 0) > goal}
    if missed and not arguments.json:
        print("goals missed:", ", ".join(f"{name} {counted[name]:.2f} > {goal:g}" for name, goal in missed.items()))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
