"""Pre-trains the small SAM 3 that ships with the app on generated scenes, with this project's detector and loss.

    python scripts/pretrain_demo_model.py [--work FOLDER] [--out assets/demo/model] [--curve docs/pretraining]

Four stages. *Ground*: without decoder and masks; linear heads, discarded afterwards, predict the attributes of each
image token, and from the encoded image whether each token belongs to an object of the phrase. *Boxes*: the decoder
learns to find objects, still without masks, which take most of the time; half of its queries are denoising queries,
whose targets are known without matching. *Full*: the whole detector with the whole loss. *Scores*:
everything after the encoder learns to find each object only once, with more weight on the scores of the one-to-one
half. The weight of the loss relative to the heads' terms grows: at full weight, an untrained decoder would undo the
first stage. Detection from the start would stay on a plateau for thousands of steps.

The result depends only on the seed. Training can be interrupted at any time: the same command continues from the last
checkpoint in `--work`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import Sam3Model

from sam3_lora.boxes import normalize, xyxy_to_cxcywh
from sam3_lora.config import LossConfig
from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.masks import mask_to_box_xyxy
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.structures import Targets, VisionFeatures
from scripts import make_demo_model, scenes
from scripts.denoising_queries import Practice, PractisingDetector, make_practice, practice_terms

ROOT = Path(__file__).resolve().parent.parent

GRID = make_demo_model.GRID
CELLS = 4 * GRID  # of the coarse maps the ground stage predicts, as fine as the model's masks
MASK_SIDE = scenes.SIDE // 2  # the loss compares masks at this size
NAMES = (list(scenes.KINDS), list(scenes.COLORS), list(scenes.PATTERNS))
# Added by the last stage to SAM 3's own total, of which the scores are a small part.
SCORES = LossConfig(loss_ce=280, presence_loss=40, loss_bbox=0, loss_giou=0, loss_mask=0, loss_dice=0)
DECAY = 0.998  # of the running mean of the weights, which is saved


@dataclass(frozen=True)
class Stage:
    """images per step; phrases per image (with objects, without); highest learning rate; detection: weight of
    the whole loss beside the heads' terms, at the start and at the end; warm-up steps."""

    name: str
    steps: int
    images: int
    positives: int
    negatives: int
    rate: float
    detection: tuple[float, float] = (0.0, 0.0)
    warmup: int = 100


@dataclass(frozen=True)
class Step:
    """One step's data: pixels (B, 3, S, S); P phrases with their image, targets and union map (P, CELLS, CELLS);
    attributes (3, B, CELLS, CELLS) int64: kind, color and pattern of each cell, 0 for the ground."""

    pixel_values: Tensor
    tokens: dict[str, Tensor]
    image_index: Tensor
    targets: Targets
    practice: Practice
    union: Tensor
    attributes: Tensor

    def to(self, device: torch.device) -> Step:
        tokens = {name: value.to(device) for name, value in self.tokens.items()}
        names = ("image_index", "targets", "practice", "union", "attributes")
        moved = [getattr(self, name).to(device) for name in names]
        return Step(self.pixel_values.to(device), tokens, *moved)


class Heads(nn.Module):
    """The linear heads of the ground stage; not part of the shipped model."""

    def __init__(self, channels: int, vocabulary: int) -> None:
        super().__init__()
        self.attributes = nn.Conv2d(channels, sum(len(names) + 1 for names in NAMES), 1)
        self.map = nn.Linear(channels, (CELLS // GRID) ** 2)
        self.words = nn.Linear(channels, vocabulary)


class Pretraining:
    """Model, heads, optimizer and running mean of the weights, at some step."""

    def __init__(self, stages: list[Stage], num_scenes: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        base = make_demo_model.initialize(Sam3Model(make_demo_model.demo_config()), seed)
        look_around_boxes(base.detr_decoder)
        self.detector = Sam3Detector(base).to(device)
        self.practising = PractisingDetector(base)
        config = base.config
        self.heads = Heads(config.detr_encoder_config.hidden_size, config.text_config.vocab_size).to(device)
        self.mean = AveragedModel(base, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        self.optimizer = self._new_optimizer()
        self.loss = Sam3LossWrapper.from_config(LossConfig())
        self.loss_of_scores = Sam3LossWrapper.from_config(SCORES)
        self.tokenizer = make_demo_model.demo_processor().tokenizer
        self.stages, self.seed, self.device, self.num_scenes, self.done = stages, seed, device, num_scenes, 0
        self.pool: list[scenes.Scene] = []
        base.detr_encoder.layers[-1].register_forward_hook(self._keep_encoded)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([*self.detector.base.parameters(), *self.heads.parameters()], weight_decay=0.02)

    def _keep_encoded(self, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        self._encoded = output  # (P, GRID * GRID, C)

    @property
    def total(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage(self) -> tuple[Stage, int]:
        """The stage of the next step, and its number within the stage."""
        left = self.done
        for stage in self.stages:
            if left < stage.steps:
                return stage, left
            left -= stage.steps
        raise IndexError("pre-training is over")

    def step(self) -> dict[str, float]:
        """Trains on one batch and returns its metrics."""
        stage, at = self.stage()
        rate = (
            stage.rate
            * min(1, (at + 1) / stage.warmup)
            * (0.02 + 0.98 * (1 + math.cos(math.pi * at / stage.steps)) / 2)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.detector.train()
        self.practising.train()
        batch = self.batch(stage).to(self.device)
        weight = stage.detection[0] + (stage.detection[1] - stage.detection[0]) * at / stage.steps
        learn = {"ground": self.ground, "boxes": self.boxes, "full": self.full, "scores": self.scores}[stage.name]
        terms = learn(batch, weight)
        total = sum(terms.values())
        total.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, 2.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.mean.update_parameters(self.detector.base)
        self.done += 1
        values = {name: value.item() for name, value in terms.items()}
        return {"total": total.item(), "gradient_norm": norm.item(), "lr": rate, "weight": weight, **values}

    def batch(self, stage: Stage) -> Step:
        """The batch of the next step, which depends only on the seed and the step's number."""
        rng = np.random.default_rng((self.seed, self.done))
        chosen = [
            turned(self.pool[int(i)], int(rng.integers(8))) for i in rng.integers(len(self.pool), size=stage.images)
        ]
        phrases = [scenes.ask(rng, scene, stage.positives, stage.negatives) for scene in chosen]
        queries = self.detector.base.config.detr_decoder_config.num_queries
        return make_step(chosen, phrases, self.tokenizer, rng, queries)

    def ground(self, batch: Step, weight: float) -> dict[str, Tensor]:
        detector, base = self.detector, self.detector.base
        vision = detector.encode_images(batch.pixel_values)
        text = detector.encode_text(**batch.tokens)
        features, position = vision.fpn[-1][batch.image_index], vision.position[-1][batch.image_index]
        states, mask = (part[batch.image_index] for part in detector.text_only_geometry(vision))
        prompt, prompt_mask = torch.cat((text.states, states), dim=1), torch.cat((text.mask, mask), dim=1)
        base.detr_encoder(
            vision_features=[features], text_features=prompt, vision_pos_embeds=[position], text_mask=prompt_mask
        )
        return self.side_terms(vision, text.states, batch)

    def boxes(self, batch: Step, weight: float) -> dict[str, Tensor]:
        vision = self.practising.encode_images(batch.pixel_values)
        text = self.practising.encode_text(**batch.tokens)
        self.practising.practice = batch.practice
        detections = self.practising.detect(vision, text, batch.image_index, masks=False)
        total = self.loss(replace(detections, one_to_many=None), replace(batch.targets, masks=None)).total
        return {
            "detection": weight * total,
            **practice_terms(detections, batch.practice),
            **self.side_terms(vision, text.states, batch),
        }

    def full(self, batch: Step, weight: float) -> dict[str, Tensor]:
        detector = self.detector
        vision = detector.encode_images(batch.pixel_values)
        text = detector.encode_text(**batch.tokens)
        detections = detector.detect(vision, text, batch.image_index)
        semantic = map_terms(detections.semantic.squeeze(1), batch.union)
        return {
            "detection": weight * self.loss(detections, batch.targets).total,
            **{name.replace("map", "semantic"): value for name, value in semantic.items()},
            **self.side_terms(vision, text.states, batch),
        }

    def scores(self, batch: Step, weight: float) -> dict[str, Tensor]:
        base = self.detector.base
        before = (
            base.vision_encoder,
            base.text_encoder,
            base.text_projection,
            base.geometry_encoder,
            base.detr_encoder,
        )
        for part in before:
            part.requires_grad_(False)
        vision, text = self.detector.encode_images(batch.pixel_values), self.detector.encode_text(**batch.tokens)
        detections = self.detector.detect(vision, text, batch.image_index)
        once = self.loss_of_scores(replace(detections, one_to_many=None), batch.targets).total
        return {
            "detection": weight * self.loss(detections, batch.targets).total,
            "scores": weight * once,
        }

    def side_terms(self, vision: VisionFeatures, states: Tensor, batch: Step) -> dict[str, Tensor]:
        """The heads' terms: where the phrase's objects are, the attributes of each cell, and the words of the phrase.

        Without the last, all words that it says no to would become one to the text encoder. The size keeps
        features near a deviation of 1: every layer on the way normalizes its input, so nothing else would, and
        in features of size 20 all queries of an untaught decoder see the same single place.
        """
        cells = self.heads.map(self._encoded).transpose(1, 2).unflatten(-1, (GRID, GRID))
        maps = map_terms(F.pixel_shuffle(cells, CELLS // GRID).squeeze(1), batch.union)
        logits = self.heads.attributes(vision.fpn[0]).split([len(names) + 1 for names in NAMES], dim=1)
        weights = [torch.tensor([0.3] + [1.0] * len(names), device=states.device) for names in NAMES]
        painted = sum(map(F.cross_entropy, logits, batch.attributes, weights))
        real = batch.tokens["attention_mask"].bool()
        words = F.cross_entropy(self.heads.words(states[real]), batch.tokens["input_ids"][real])
        size = sum(features.square().mean() for features in (self._encoded, *vision.fpn))
        return {**maps, "attributes": 0.5 * painted, "words": 0.05 * words, "size": 0.02 * size}

    def state(self) -> dict:
        parts = {name: getattr(self, name).state_dict() for name in ("heads", "mean", "optimizer")}
        return {"done": self.done, "base": self.detector.base.state_dict(), **parts}

    def load_state(self, state: dict) -> None:
        self.detector.base.load_state_dict(state["base"])
        for name in ("heads", "mean", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.done = state["done"]


def look_around_boxes(decoder: nn.Module, steps: int = 400) -> None:
    """Fits the decoder's position bias so that its heads look at the parts of a query's box before anything is learned.

    With a random bias each query sees the mean of the whole image, and thousands of steps go by before one
    finds out that its own place matters. One head each looks at the inside, the four sides, around the box,
    at a wider region, and everywhere.
    """
    parameters = [*decoder.box_rpb_embed_x.parameters(), *decoder.box_rpb_embed_y.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    generator = torch.Generator().manual_seed(0)
    cells = torch.arange(GRID) / GRID
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / steps)
        center, size = torch.rand(2, 64, 2, generator=generator).unbind(0)
        size = 0.05 + 0.75 * size**2
        low, high = (center - size / 2)[..., None], (center + size / 2)[..., None]  # (64, 2, 1): x, y
        outside = (low - cells).clamp(min=0) + (cells - high).clamp(min=0)  # (64, 2, GRID)
        inside, wide = _fading(outside, 0.08), _fading(outside - size[..., None] / 2, 0.2)
        begin, end = _fading((cells - low).abs(), 0.12), _fading((cells - high).abs(), 0.12)
        rim = _fading((outside - 0.1).abs(), 0.12)
        everywhere = torch.zeros_like(inside)
        along_x = (inside, begin, end, inside, inside, rim, wide, everywhere)
        along_y = (inside, inside, inside, begin, end, rim, wide, everywhere)
        wanted = torch.stack(
            [x[:, 0, None, :] + y[:, 1, :, None] for x, y in zip(along_x, along_y, strict=True)]
        ).flatten(2)  # (heads, 64, GRID * GRID)
        bias = decoder._get_rpb_matrix(torch.cat((center, size), -1)[None], (GRID, GRID))[0]
        F.smooth_l1_loss(bias, wanted[: len(bias)]).backward()
        optimizer.step()
        optimizer.zero_grad()


def _fading(distance: Tensor, width: float) -> Tensor:
    """0 where the distance is none, falling to -5 at `width` and beyond."""
    return -5 * (distance.clamp(min=0) / width).clamp(max=1)


def map_terms(logits: Tensor, union: Tensor) -> dict[str, Tensor]:
    """Cross entropy and dice of a phrase's map (P, H, W); dice where there is something to find."""
    probability, union = logits.sigmoid(), union.float()
    overlap, size = (probability * union).sum((1, 2)), (probability + union).sum((1, 2))
    present = union.flatten(1).any(1)
    dice = ((1 - (2 * overlap + 1) / (size + 1)) * present).sum() / present.sum().clamp(min=1)
    return {"map_ce": 2 * F.binary_cross_entropy_with_logits(logits, union), "map_dice": dice}


def turned(scene: scenes.Scene, way: int) -> scenes.Scene:
    """One of the eight ways to turn and mirror a scene."""

    def turn(pixels: np.ndarray) -> np.ndarray:
        return np.rot90(pixels[:, ::-1] if way >= 4 else pixels, way % 4)

    figures = tuple(scenes.Figure(f.kind, f.color, f.pattern, turn(f.mask)) for f in scene.figures)
    return scenes.Scene(turn(scene.image), figures)


def make_step(
    chosen: list[scenes.Scene], asked: list[list[str]], tokenizer, rng: np.random.Generator, queries: int
) -> Step:
    phrases = [phrase for some in asked for phrase in some]
    tokens = tokenizer(phrases, padding="longest", return_tensors="pt")  # real tokens never see padding
    drawn, wanted, masks, union, attributes = [], [], [], [], []
    shrink = scenes.SIDE / CELLS
    center = ((np.arange(CELLS) + 0.5) * shrink).astype(int)
    half = np.arange(MASK_SIDE) * 2 + 1
    for scene, some in zip(chosen, asked, strict=True):
        cells = np.zeros((3, CELLS, CELLS), np.int64)
        for figure in scene.figures:
            inside = figure.mask[np.ix_(center, center)]
            for layer, (names, value) in enumerate(
                zip(NAMES, (figure.kind, figure.color, figure.pattern), strict=True)
            ):
                cells[layer][inside] = names.index(value) + 1
        attributes.append(cells)
        corners = np.array([mask_to_box_xyxy(figure.mask) for figure in scene.figures]).reshape(-1, 4)
        boxes = xyxy_to_cxcywh(normalize(torch.from_numpy(corners), (scenes.SIDE,) * 2)).float()
        for phrase in some:
            is_meant = [scenes.answers(phrase, figure) for figure in scene.figures]
            meant = [figure for figure, yes in zip(scene.figures, is_meant, strict=True) if yes]
            drawn.append(boxes)
            wanted.append(boxes[torch.tensor(is_meant, dtype=torch.bool)])
            masks += [figure.mask[np.ix_(half, half)] for figure in meant]
            everything = (
                np.any([figure.mask for figure in meant], axis=0) if meant else np.zeros((scenes.SIDE,) * 2, bool)
            )
            union.append(everything[np.ix_(center, center)])
    images = torch.from_numpy(np.stack([scene.image for scene in chosen])).permute(0, 3, 1, 2)
    return Step(
        pixel_values=images.float() / 127.5 - 1,
        tokens={"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]},
        image_index=torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(some) for some in asked])),
        targets=Targets(
            boxes=torch.cat(wanted),
            counts=torch.tensor([len(boxes) for boxes in wanted]),
            masks=torch.from_numpy(np.array(masks).reshape(-1, MASK_SIDE, MASK_SIDE)).bool(),
            mask_valid=torch.ones(len(masks), dtype=torch.bool),
            exhaustive=torch.ones(len(wanted), dtype=torch.bool),
        ),
        practice=make_practice(rng, drawn, wanted, queries),
        union=torch.from_numpy(np.stack(union)),
        attributes=torch.from_numpy(np.stack(attributes, axis=1)),
    )


def _scene(number: int, seed: int) -> scenes.Scene:
    return scenes.make_scene(np.random.default_rng((seed, 0, number)))


def make_pool(count: int, seed: int) -> list[scenes.Scene]:
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        return list(workers.map(partial(_scene, seed=seed), range(count), chunksize=100))


def draw_curve(log: Path, picture: Path) -> None:
    """Plots the log: how well phrases are found in the pixels, the loss of boxes and the total loss."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(9, 3), layout="constrained")
    maps, loss = figure.subplots(1, 2)
    for index, name in enumerate(dict.fromkeys(line["stage"] for line in lines)):
        some = [line for line in lines if line["stage"] == name]
        steps = [line["step"] for line in some]
        if "map_dice" in some[0]:
            maps.plot(steps, [line["map_dice"] for line in some], f"C{index}", label=name)
        if "detection" in some[0]:
            loss.plot(steps, [line["detection"] / line["weight"] for line in some], f"C{index}", label=name)
    maps.set(title="Dice loss of a phrase's map", xlabel="step", ylim=(0, 1))
    loss.set(title="Loss (boxes: without masks)", xlabel="step")
    for axes in (maps, loss):
        axes.legend()
    figure.savefig(picture, metadata={"Date": None})


def save(path: Path, state: dict) -> None:
    """Written to a temporary file and renamed, so that a checkpoint is always complete."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=make_demo_model.DEFAULT_OUT)
    parser.add_argument("--work", type=Path, default=Path("pretraining"), help="checkpoint and log, to go on from")
    parser.add_argument("--curve", type=Path, help="write the log and its picture there, as .jsonl and .svg")
    parser.add_argument("--ground-steps", type=int, default=1200)
    parser.add_argument("--boxes-steps", type=int, default=800)
    parser.add_argument("--full-steps", type=int, default=9000)
    parser.add_argument("--scores-steps", type=int, default=3500)
    parser.add_argument("--scenes", type=int, default=10000, help="how many are drawn, each shown in eight ways")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    checkpoint, log = arguments.work / "checkpoint.pt", arguments.work / "log.jsonl"

    stages = [
        Stage("ground", arguments.ground_steps, images=8, positives=3, negatives=2, rate=8e-4),
        Stage("boxes", arguments.boxes_steps, images=8, positives=3, negatives=2, rate=5e-4, detection=(0.01, 0.05)),
        Stage("full", arguments.full_steps, images=6, positives=2, negatives=1, rate=4e-4, detection=(0.05, 0.15)),
        Stage("scores", arguments.scores_steps, images=8, positives=2, negatives=2, rate=4e-4, detection=(0.1, 0.1)),
    ]
    training = Pretraining(stages, arguments.scenes, arguments.seed, torch.device(arguments.device))
    if checkpoint.exists():
        training.load_state(torch.load(checkpoint, map_location=arguments.device, weights_only=True))
        print(f"Going on after step {training.done}.")
    started = time.time()
    training.pool = make_pool(arguments.scenes, arguments.seed)
    print(f"{arguments.scenes} scenes drawn in {time.time() - started:.0f} s", flush=True)
    recent: list[dict[str, float]] = []
    while training.done < training.total:
        stage, at = training.stage()
        recent.append(training.step())
        is_last = at + 1 == stage.steps
        if is_last or training.done % 50 == 0:
            means = {name: float(f"{np.mean([values[name] for values in recent]):.4g}") for name in recent[0]}
            line = {"step": training.done, "stage": stage.name, **means, "seconds": round(time.time() - started)}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            recent = []
        if is_last or training.done % 250 == 0:
            save(checkpoint, training.state())
    training.mean.module.to(torch.float16).save_pretrained(arguments.out)
    make_demo_model.demo_processor().save_pretrained(arguments.out)
    print(f"{arguments.out} written")
    if arguments.curve:
        shutil.copy(log, arguments.curve.with_suffix(".jsonl"))
        draw_curve(log, arguments.curve.with_suffix(".svg"))


if __name__ == "__main__":
    main()
