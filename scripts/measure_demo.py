"""Measures what the demo promises: what its base model knows, what a run teaches it, and what it forgets by that.

    python scripts/measure_demo.py [--seeds 5] [--set training.epochs=10 ...] [--runs FOLDER]

Each seed trains the default configuration once on the demo, and asks the base of as many other scenes; without seeds
only the base is measured, once. Scenes are new ones, made by the generator that made those of the pre-training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.images import load_image
from sam3_lora.data.records import Split
from sam3_lora.evaluate import SCORE_THRESHOLD, evaluate
from sam3_lora.monitor.expectations import WINDOW, measure_stages, save_stages
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import PhraseResult, Predictor
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from scripts import scenes

ROOT = Path(__file__).resolve().parent.parent

UNSEEN = 1  # the stream of scenes that no pre-training has seen; its own are stream 0
# Words for things that are in no pavement and, but for "car" and "dog", not among the negatives of any training here.
FOREIGN = ("car", "dog", "elephant", "guitar", "banana", "helicopter", "zebra crossing sign", "red circle", "umbrella")


@dataclass(frozen=True)
class Answers:
    """All answers to many questions: their scores and whether each is right; and what was asked.

    objects: how many there were to be found. absent: the highest score of each question that nothing answers.
    """

    scores: np.ndarray
    right: np.ndarray
    objects: int
    absent: np.ndarray

    def f1(self, threshold: float) -> float:
        found = self.scores >= threshold
        return 2 * int((self.right & found).sum()) / max(int(found.sum()) + self.objects, 1)

    def best_threshold(self) -> float:
        return max(np.linspace(0.05, 0.95, 19).round(2), key=self.f1)

    def false_firing(self, threshold: float) -> float:
        return float((self.absent >= threshold).mean())


def ask_scenes(predictor: Predictor, count: int, seed: int = 0) -> Answers:
    """Asks `count` unseen scenes for two phrases that are there, where there are two, and two that are not."""
    scores, right, absent, objects = [], [], [], 0
    for number in range(count):
        rng = np.random.default_rng((seed, UNSEEN, number))
        scene = scenes.make_scene(rng)
        predictor.set_image(scene.image)
        results = postprocess_all(
            predictor.prompt(scenes.ask(rng, scene, 2, 2), threshold=0.05), PostprocessConfig(0.05)
        )
        for phrase, result in results.items():
            truths = [figure.mask for figure in scene.figures if scenes.answers(phrase, figure)]
            objects += len(truths)
            scores += result.scores.tolist()
            right += hits(result, truths)
            if not truths:
                absent.append(result.scores.max(initial=0))
    return Answers(np.array(scores), np.array(right, dtype=bool), objects, np.array(absent))


def hits(result: PhraseResult, truths: list[np.ndarray]) -> list[bool]:
    """For each answer, best first, whether it meets (IoU 0.5) an object that no better one has met."""
    left, right = list(truths), []
    for mask in result.masks:
        ious = [(mask & truth).sum() / (mask | truth).sum() for truth in left]
        best = int(np.argmax(ious)) if ious else -1
        right.append(best >= 0 and ious[best] >= 0.5)
        if right[-1]:
            left.pop(best)
    return right


def foreign_firing(predictor: Predictor, images: Iterable) -> dict[str, float]:
    """The share of images in which each foreign word finds something."""
    fired = []
    for image in images:
        predictor.set_image(load_image(image))
        results = predictor.prompt(FOREIGN, threshold=SCORE_THRESHOLD)
        fired.append([len(results[word]) > 0 for word in FOREIGN])
    return dict(zip(FOREIGN, np.mean(fired, axis=0).tolist(), strict=True))


def seconds_per_image(predictor: Predictor, images: Sequence) -> float:
    """The median time to set an image and ask it three phrases that were never asked before."""
    times = []
    for number, image in enumerate(images):
        pixels = load_image(image)
        started = time.perf_counter()
        predictor.set_image(pixels)
        predictor.prompt([f"crack {number}", f"pothole {number}", f"joint {number}"])
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def measure(
    predictor: Predictor, valid: Split, num_scenes: int, threshold: float | None = None
) -> dict[str, float | None]:
    """The promises in numbers; threshold: of the scenes' F1, their best one if None."""
    answers = ask_scenes(predictor, num_scenes)
    foreign = foreign_firing(predictor, valid.images)
    metrics = evaluate(predictor, valid)
    return {
        **on_scenes(answers, threshold),
        "valid_f1": metrics["f1_50"],
        "valid_map_segm": metrics["map_segm"],
        "valid_cgf1": metrics["cgf1"],
        "foreign_firing": float(np.mean(list(foreign.values()))),
        "foreign_firing_worst_word": max(foreign.values()),
        "seconds_per_image": seconds_per_image(predictor, valid.images),
    }


def on_scenes(answers: Answers, threshold: float | None = None) -> dict[str, float]:
    """Of scenes, at a threshold, their best one if None."""
    threshold = answers.best_threshold() if threshold is None else threshold
    return {
        "scenes_threshold": threshold,
        "scenes_f1": answers.f1(threshold),
        "scenes_false_firing": answers.false_firing(threshold),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=0, help="runs to train, with seeds 0, 1, ...")
    parser.add_argument("--set", nargs="*", default=[], help="settings other than the default, as training.epochs=3")
    parser.add_argument("--base", default="demo", help="the base model, or a folder with another")
    parser.add_argument("--healthy", type=Path, help="write the ranges of the runs' losses there, as JSON")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--scenes", type=int, default=200)
    arguments = parser.parse_args()
    valid = open_dataset("demo").split("valid")
    predictor = Predictor.load(arguments.base)
    base = measure(predictor, valid, arguments.scenes)
    print("base", json.dumps(rounded(base)), flush=True)
    for seed in range(1, arguments.seeds):
        print("base, other scenes", json.dumps(rounded(on_scenes(ask_scenes(predictor, arguments.scenes, seed)))))
    settings = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in arguments.set)}
    taught, metrics = [], []
    for seed in range(arguments.seeds):
        fixed = {"training.seed": seed, "output.runs": str(arguments.runs), "model.base": arguments.base}
        config = RunConfig().with_settings({**fixed, **settings})
        started = time.time()
        run = Run.create(config)
        fit(run)
        seconds = time.time() - started
        metrics.append(run.metrics()[0])
        adapter = run.folder / "adapters" / "best"
        values = measure(Predictor.load(arguments.base, adapter), valid, arguments.scenes, base["scenes_threshold"])
        taught.append({**values, "scenes_f1_kept": values["scenes_f1"] / base["scenes_f1"], "seconds": seconds})
        print("seed", seed, json.dumps(rounded(taught[-1])), flush=True)
    if taught:
        for name, of in (("mean", np.mean), ("lowest", np.min), ("highest", np.max)):
            print(name, json.dumps(rounded({key: float(of([one[key] for one in taught])) for key in taught[0]})))
    if arguments.healthy and taught:
        about = f"Lowest and highest mean over {WINDOW} steps of each weighted term in {len(taught)} runs of the demo"
        save_stages(measure_stages(metrics), arguments.healthy, f"{about}: scripts/measure_demo.py.")


def rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    main()
