"""SAM 3 at full size on a GPU, in less than eight minutes: time and memory of steps, and what they wait for.

    python bench/gpu.py [--out gpu.json] [--parts step,reference]
    python bench/gpu.py --tiny --device cpu          # the same script on small shapes, to try it

Weights are random, nothing is downloaded. Steps are fit()'s own (``prepare`` and ``take_step``) on one image with four
phrases, two of which have objects. Times are medians of steps after warming up. A part that fails is printed with its
error and the others go on; parts that would begin after seven minutes are left out, and it is said. Prints a table and
one JSON object; exits with 1 if a part failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial, partialmethod
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam3Config, Sam3Model, Sam3Processor

from sam3_lora.config import ASSETS, Precision, RunConfig
from sam3_lora.data.samples import Batch, checked
from sam3_lora.model.base import LoadedModel
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import autocast
from sam3_lora.predict.predictor import Predictor
from sam3_lora.recipes import preset
from sam3_lora.train import setup as train_setup
from sam3_lora.train.accelerator import auto_workers, make_accelerator
from sam3_lora.train.resolve import resolve
from sam3_lora.train.setup import Setup
from sam3_lora.train.step import take_step

LAST_START_S = 420
# Dense bf16 TFLOP/s by a part of the GPU's name, of their data sheets.
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165, "3090": 71, "L4": 121, "A10": 125}
ALL = list(RunConfig().lora.components)
ALL_BUT_VISION = [name for name in ALL if name != "vision_encoder"]
PHOTO_HW = (960, 1280)


@dataclass(frozen=True)
class Bench:
    """What all parts share."""

    device: torch.device
    tiny: bool
    steps: int
    folder: Path

    @property
    def size(self) -> int:
        """Side of the model's images in pixels."""
        return 112 if self.tiny else 1008

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def precision(self) -> Precision:
        """Of steps; a CPU takes longer in bf16."""
        return "bf16" if self.on_gpu else "fp32"

    @property
    def gpu_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.on_gpu else "CPU"

    def architecture(self) -> Sam3Config:
        """Of the base model: SAM 3's own, or with small towers."""
        if not self.tiny:
            return Sam3Config()
        grid = self.size // 14
        backbone = {"model_type": "sam3_vit_model", "image_size": self.size, "num_hidden_layers": 2}
        backbone |= {"global_attn_indexes": [1], "hidden_size": 128, "intermediate_size": 592, "num_attention_heads": 2}
        sizes = [[grid * factor] * 2 for factor in (4, 2, 1)]
        text = {"model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 64, "intermediate_size": 128}
        text |= {"projection_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}
        return Sam3Config(
            vision_config={"backbone_config": backbone, "backbone_feature_sizes": sizes},
            text_config=text,
            detr_encoder_config={"num_layers": 1},
            detr_decoder_config={"num_layers": 2, "num_queries": 20},
        )

    def base(self) -> LoadedModel:
        """The base model with random weights, made on the device."""
        torch.manual_seed(0)
        with self.device:
            model = Sam3Model(self.architecture()).eval().requires_grad_(False)
        processor = Sam3Processor.from_pretrained(ASSETS / "demo" / "model")
        processor.image_processor.size = {"height": self.size, "width": self.size}
        return LoadedModel(model, processor, "random")

    def setup(self, name: str = "balanced", **settings: Any) -> Setup:
        """A run before its first step, in training mode; settings with __ for the dot."""
        usual = {
            "data.path": str(self.folder / "data"),
            "data.valid_split": "",
            "data.num_negatives": 2,
            "data.num_workers": 0,
            "training.device": self.device.type,
            "training.precision": self.precision,
            "training.batch_size": 1,
            "model.gradient_checkpointing": True,
        }
        own = {key.replace("__", "."): value for key, value in settings.items()}
        config = preset(name).with_settings(usual | own)
        accelerator = make_accelerator(config.training)
        resolved, _ = resolve(config, accelerator.device)
        with mock.patch.object(train_setup, "load_base", lambda *_, **__: self.base()):
            setup = train_setup.prepare(resolved, accelerator, log=_tell)
        setup.train_mode()
        return setup

    def batch(self, setup: Setup, images: int = 1) -> Batch:
        """The first images, with whatever of them is kept on disk."""
        if setup.vision is not None:
            for _ in setup.vision.fill(setup.data.every_split):
                pass
        setup.train_mode()
        batch = checked(setup.data.collate([setup.data.samples[index] for index in range(images)]))
        return batch.pin_memory() if self.on_gpu else batch

    def timed(self, act: Callable[[], object]) -> float:
        """Seconds of an act and of all that it began on the GPU."""
        self.synchronize()
        began = time.perf_counter()
        act()
        self.synchronize()
        return time.perf_counter() - began

    def median(self, act: Callable[[], object]) -> float:
        """Median seconds of several times, after some to warm up."""
        for _ in range(1 if self.tiny else 2):
            act()
        return statistics.median(self.timed(act) for _ in range(self.steps))

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gib(self) -> float | None:
        return torch.cuda.max_memory_allocated(self.device) / 2**30 if self.on_gpu else None


def step(bench: Bench, name: str = "balanced", images: int = 1, **settings: Any) -> dict[str, Any]:
    """Time and peak memory of one configuration's steps."""
    bench.free()
    setup = bench.setup(name, training__batch_size=images, **settings)
    batch = bench.batch(setup, images)
    bench.free()
    seconds = bench.median(lambda: take_step(setup, [batch]))
    return {"step_s": seconds, "images_per_s": images / seconds, "peak_gib": bench.peak_gib()}


def reference(bench: Bench) -> dict[str, Any]:
    """Our checkpointed step and the reference's, alternately."""
    # Where it is missing, this part fails; an import by way of the tests would end the script.
    import sam3.train.loss.loss_fns  # noqa: F401

    from bench.gpu_reference import ReferenceStep

    setup = bench.setup(model__gradient_checkpointing=True)
    batch = bench.batch(setup)
    small = {"depth": 2, "embed_dim": 128, "num_heads": 2, "global_att_blocks": (1,)}
    full = {"depth": 32, "embed_dim": 1024, "num_heads": 16, "global_att_blocks": (7, 15, 23, 31)}
    targets = batch.to(bench.device).targets
    with closing(ReferenceStep(bench.device, bench.size, small if bench.tiny else full, targets, rank=16)) as theirs:
        peaks = {}
        for who, act in (("ours", lambda: take_step(setup, [batch])), ("reference", theirs)):
            act()
            bench.free()
            held = torch.cuda.memory_allocated(bench.device) / 2**30 if bench.on_gpu else 0.0
            act()
            peak = bench.peak_gib()
            peaks[f"{who}_activations_gib"] = None if peak is None else peak - held
        ours_s, theirs_s = [], []
        for _ in range(bench.steps):
            theirs_s.append(bench.timed(theirs))
            ours_s.append(bench.timed(lambda: take_step(setup, [batch])))
    ours, its = statistics.median(ours_s), statistics.median(theirs_s)
    return {"ours_s": ours, "reference_s": its, "ratio": ours / its, **peaks}


def vision(bench: Bench) -> dict[str, Any]:
    """The vision encoder alone, frozen, in bf16: its share of what the GPU can do (MFU)."""
    setup = bench.setup("minimal")
    pixels = torch.randn(1, 3, bench.size, bench.size, device=bench.device)
    detector = setup.model.detector.eval()
    with torch.no_grad(), autocast(bench.device, bench.precision):
        with FlopCounterMode(display=False) as counter:
            detector.encode_images(pixels)
        seconds = bench.median(lambda: detector.encode_images(pixels))
    tflops = counter.get_total_flops() / 1e12 / seconds
    peak = next((value for part, value in PEAK_TFLOPS.items() if part in bench.gpu_name), None)
    return {"seconds": seconds, "tflop_per_s": tflops, "mfu": None if peak is None else tflops / peak}


def precision(bench: Bench) -> dict[str, Any]:
    """Loss and gradients in bf16 beside fp32, with the same weights and batch and without dropout."""
    losses, gradients = {}, {}
    for name in ("fp32", "bf16"):
        setup = bench.setup(training__precision=name, lora__dropout=0.0)
        for module in setup.model.base.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for parameter_name, parameter in setup.model.peft.named_parameters():
            if ".lora_B." in parameter_name:  # zero at the beginning: nothing would reach lora_A
                with torch.no_grad():
                    torch.nn.init.normal_(parameter, std=0.01, generator=_generator(bench.device))
        _, report = setup.forward(setup.wrapped, bench.batch(setup))
        report.total.backward()
        losses[name] = float(report.total.detach())
        gradients[name] = {
            component: torch.cat([one.grad.flatten().float() for one in of if one.grad is not None])
            for component, of in setup.model.components.items()
        }
        del setup, report
        bench.free()
    cosines = {
        name: float(torch.cosine_similarity(gradients["bf16"][name], gradients["fp32"][name], dim=0)) for name in ALL
    }
    return {"loss_apart": abs(losses["bf16"] / losses["fp32"] - 1), "gradient_cosine": cosines}


def host_waits(bench: Bench) -> dict[str, Any]:
    """How often the host waits for the GPU in one step, and where."""
    if not bench.on_gpu:
        return {"left_out": "only a GPU is waited for; tests/train/test_host_waits.py counts without one"}
    setup = bench.setup()
    batch = bench.batch(setup)
    for _ in range(3):
        take_step(setup, [batch])
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            take_step(setup, [batch])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"waits": len(caught), "where": sorted({f"{Path(one.filename).name}:{one.lineno}" for one in caught})}


def inference(bench: Bench) -> dict[str, Any]:
    """A new image's first phrase, its second, and eight at once, in bf16."""
    predictor = Predictor(bench.base(), precision=bench.precision)
    times: dict[str, list[float]] = {"first": [], "second": [], "eight_at_once": []}
    for number in range(bench.steps + 1):
        image = np.random.default_rng(number).integers(0, 256, (*PHOTO_HW, 3), dtype=np.uint8)
        predictor.set_image(image)
        for name, phrases in (("first", 1), ("second", 1), ("eight_at_once", 8)):
            asked = [f"{name} {number} {phrase}" for phrase in range(phrases)]
            times[name].append(bench.timed(partial(predictor.prompt, asked)))
    medians = {f"{name}_s": statistics.median(seconds[1:]) for name, seconds in times.items()}
    return medians | {"peak_gib": bench.peak_gib(), "second_over_first": medians["second_s"] / medians["first_s"]}


def loading(bench: Bench) -> dict[str, Any]:
    """A sample's processor time here, and how many processes would load."""
    samples = bench.setup("minimal", data__vision_cache_gb=0).data.samples
    began = time.process_time()
    for index in range(len(samples)):
        samples[index]
    return {"sample_s": (time.process_time() - began) / len(samples), "auto_workers": auto_workers(bench.device)}


def compiled(bench: Bench) -> dict[str, Any]:
    """A step with model.compile; with --tiny nothing is generated, since that takes minutes at any size."""
    backend = "eager" if bench.tiny else "inductor"
    compiling = partialmethod(Sam3Detector.compile_vision, backend=backend)
    with mock.patch.object(Sam3Detector, "compile_vision", compiling):
        return step(bench, model__compile=True)


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "step": step,
    "reference": reference,
    "host_waits": host_waits,
    "vision": vision,
    "all but vision with kept features": lambda bench: step(bench, lora__components=ALL_BUT_VISION),
    "minimal with kept features": lambda bench: step(bench, "minimal"),
    "minimal without kept features": lambda bench: step(bench, "minimal", data__vision_cache_gb=0),
    "step without checkpointing": lambda bench: step(bench, model__gradient_checkpointing=False),
    "step of two images": lambda bench: step(bench, images=2),
    "step in fp32 (TF32)": lambda bench: step(bench, training__precision="fp32"),
    "precision": precision,
    "inference": inference,
    "loading": loading,
    "compiled step": compiled,
}


def run(bench: Bench, chosen: list[str]) -> dict[str, Any]:
    """Every part's numbers, or why it has none."""
    found: dict[str, Any] = {}
    began = time.perf_counter()
    for name, part in PARTS.items():
        if chosen and name not in chosen:
            continue
        at = time.perf_counter()
        if at - began > LAST_START_S:
            found[name] = {"left_out": f"{LAST_START_S} seconds were over"}
            continue
        try:
            found[name] = part(bench)
        except Exception as error:  # whatever it is: the other parts are measured all the same
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error}"[:300]
            found[name] = {"failed": message, "at": f"{Path(where.filename).name}:{where.lineno}"}
        bench.free()
        _tell(f"{name}: {json.dumps(found[name])} ({time.perf_counter() - at:.0f} s)")
    return found


def table(found: dict[str, Any]) -> str:
    """The numbers of all parts, one in a line."""
    lines = [f"{'part':34s}{'':22s}{'value':>12s}"]
    for part, numbers in found.items():
        for name, value in numbers.items():
            shown = f"{value:12.4g}" if isinstance(value, int | float) else f"  {value}"
            lines.append(f"{part:34s}{name:22s}{shown}")
            part = ""
    return "\n".join(lines)


def write_dataset(folder: Path, images: int) -> None:
    """COCO with photos: five objects with a polygon each, of two categories out of four."""
    train, rng, (height, width) = folder / "train", np.random.default_rng(0), PHOTO_HW
    train.mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        coarse = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(train / f"{number}.jpg"), photo)
        entries.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        for position in range(5):
            x, y, w, h = 60 + 230 * position, 120, 160, 480
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"id": len(annotations), "image_id": number, "category_id": position % 2, "bbox": [x, y, w, h]}
            annotations.append({**one, "area": w * h, "iscrowd": 0, "segmentation": [corners]})
    categories = [{"id": number, "name": name} for number, name in enumerate(("crack", "pothole", "joint", "patch"))]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (train / "_annotations.coco.json").write_text(json.dumps(content))


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(1)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--steps", type=int, default=0, help="timed steps of each kind; 0: five, with --tiny one")
    parser.add_argument("--parts", default="", help="names separated by commas; all without")
    parser.add_argument("--out", type=Path, help="file for the JSON object")
    arguments = parser.parse_args()
    began = time.perf_counter()
    steps = arguments.steps or (1 if arguments.tiny else 5)
    chosen = [name.strip() for name in arguments.parts.split(",") if name.strip()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data", images=2)
        bench = Bench(torch.device(arguments.device), arguments.tiny, steps, folder)
        with mock.patch.dict(os.environ, {"SAM3_LORA_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}):
            parts = run(bench, chosen)
        found = {"device": bench.gpu_name, "torch": torch.__version__, "size": bench.size, "parts": parts}
    found["seconds"] = round(time.perf_counter() - began)
    print(table(parts))
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(any("failed" in numbers for numbers in parts.values()))


if __name__ == "__main__":
    main()
