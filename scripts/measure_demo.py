"""Measures the demo: what its base model finds, what a training run improves, and what the adapter forgets.

    python scripts/measure_demo.py [--seeds 5] [--set training.epochs=10 ...] [--runs FOLDER] [--json FILE]

Each seed trains the default configuration once on the demo and measures the base on another set of scenes; without
seeds only the base is measured, once. The scenes come from the pre-training's generator, which has not shown them yet.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.images import load_image
from sam3_lora.data.records import Split
from sam3_lora.evaluate import cgf1
from sam3_lora.evaluate.average_precision import AveragePrecision, mean_ap
from sam3_lora.evaluate.precision_recall_f1 import MATCH_IOU, ThresholdSweep
from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, asked_of, phrases_of, predict_image
from sam3_lora.masks import decode_segmentation, mask_to_box_xyxy
from sam3_lora.monitor.healthy_ranges import WINDOW
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import PhraseResult, Predictor
from sam3_lora.predict.routing import Routing
from sam3_lora.recipes import demo_config
from sam3_lora.runs.run import Run
from sam3_lora.structures import VISUAL
from sam3_lora.train.loop import fit
from scripts import scenes
from scripts.healthy_stages import measure_stages, save_stages

ROOT = Path(__file__).resolve().parent.parent

UNSEEN = 1  # the stream of scenes that no pre-training has seen; its own are stream 0
# Phrases for things that no pavement holds and, but for "car" and "dog", no training here uses as negatives.
UNRELATED = (
    "car",
    "dog",
    "elephant",
    "guitar",
    "banana",
    "helicopter",
    "zebra crossing sign",
    "red circle",
    "umbrella",
)


@dataclass(frozen=True)
class SceneResults:
    """Predictions on many scenes."""

    sweep: ThresholdSweep
    max_absent_scores: np.ndarray  # the highest score of each prompt for an absent phrase

    def best_threshold(self) -> float:
        return max(np.linspace(0.05, 0.95, 19).round(2), key=lambda threshold: self.sweep.at(threshold).f1)

    def false_firing(self, threshold: float) -> float:
        return float((self.max_absent_scores >= threshold).mean())


def predict_scenes(predictor: Predictor, count: int, seed: int = 0, routing: Routing | None = None) -> SceneResults:
    """Prompts `count` unseen scenes for two phrases that are present, where there are two, and two that are absent."""
    scores, is_tp, absent, num_objects = [], [], [], 0
    for number in range(count):
        rng = np.random.default_rng((seed, UNSEEN, number))
        scene = scenes.make_scene(rng)
        predictor.set_image(scene.image)
        results = postprocess_all(
            predictor.prompt(scenes.ask(rng, scene, 2, 2), threshold=0.05, routing=routing), PostprocessConfig(0.05)
        )
        for phrase, result in results.items():
            gt = [figure.mask for figure in scene.figures if scenes.answers(phrase, figure)]
            num_objects += len(gt)
            scores += result.scores.tolist()
            is_tp += true_positives(result, gt)
            if not gt:
                absent.append(result.scores.max(initial=0))
    return SceneResults(ThresholdSweep(np.array(scores), np.array(is_tp, dtype=bool), num_objects), np.array(absent))


def true_positives(result: PhraseResult, gt: list[np.ndarray]) -> list[bool]:
    """For each prediction, best first, whether it matches (IoU 0.5) an object that no better one matches."""
    unmatched, is_tp = list(gt), []
    for mask in result.masks:
        ious = [(mask & other).sum() / (mask | other).sum() for other in unmatched]
        best = int(np.argmax(ious)) if ious else -1
        is_tp.append(best >= 0 and ious[best] >= MATCH_IOU)
        if is_tp[-1]:
            unmatched.pop(best)
    return is_tp


def unrelated_firing(predictor: Predictor, images: Iterable, routing: Routing | None = None) -> dict[str, float]:
    """The share of images in which each unrelated phrase predicts something."""
    fired = []
    for image in images:
        predictor.set_image(load_image(image))
        results = predictor.prompt(UNRELATED, threshold=SCORE_THRESHOLD, routing=routing)
        fired.append([len(results[phrase]) > 0 for phrase in UNRELATED])
    return dict(zip(UNRELATED, np.mean(fired, axis=0).tolist(), strict=True))


def exemplar_f1(predictor: Predictor, pictures: Iterable[tuple[np.ndarray, list[list[np.ndarray]]]]) -> float:
    """F1 by boxes alone: of each phrase the box of one object, to find all of them; at the best threshold.

    Args:
        predictor: the base model, or an adapter.
        pictures: images (H, W, 3), and for each phrase in it the masks of its objects, at least one.
    """
    scores, is_tp, num_objects = [], [], 0
    rng = np.random.default_rng(0)
    for image, phrases in pictures:
        predictor.set_image(image)
        for gt in phrases:
            box = np.array([mask_to_box_xyxy(gt[int(rng.integers(len(gt)))])])
            found = predictor.prompt([], 0.05, exemplars=Exemplars(box, np.ones(1, dtype=bool)))
            result = postprocess_all(found, PostprocessConfig(0.05))[VISUAL]
            num_objects += len(gt)
            scores += result.scores.tolist()
            is_tp += true_positives(result, gt)
    sweep = ThresholdSweep(np.array(scores), np.array(is_tp, dtype=bool), num_objects)
    return sweep.at(sweep.best_threshold() or SCORE_THRESHOLD).f1


def objects_by_kind(count: int) -> Iterator[tuple[np.ndarray, list[list[np.ndarray]]]]:
    """Unseen scenes for :func:`exemplar_f1`."""
    for number in range(count):
        scene = scenes.make_scene(np.random.default_rng((0, UNSEEN, number)))
        kinds = dict.fromkeys(figure.kind for figure in scene.figures)
        yield scene.image, [[one.mask for one in scene.figures if one.kind == kind] for kind in kinds]


def objects_by_phrase(split: Split) -> Iterator[tuple[np.ndarray, list[list[np.ndarray]]]]:
    """A split's images for :func:`exemplar_f1`."""
    for image in split.images:
        phrases: dict[str, list[np.ndarray]] = {}
        for item in image.annotations:
            mask = decode_segmentation(item.segmentation, (image.height, image.width))
            phrases.setdefault(item.category, []).append(mask)
        yield load_image(image), list(phrases.values())


def seconds_per_image(predictor: Predictor, images: Sequence) -> float:
    """The median time to set an image and prompt it for three phrases that are not in the cache."""
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
    """All of the demo's numbers.

    Args:
        predictor: the base model, or an adapter.
        valid: the demo's validation split.
        num_scenes: unseen scenes to measure on.
        threshold: score threshold of the scenes' F1; None takes the best one.
    """
    unrelated = unrelated_firing(predictor, valid.images)
    phrases = phrases_of(valid)
    results = []
    for image in valid.images:
        found, _ = predict_image(predictor, image, asked_of(image, phrases), load_image(image))
        results += found.results
    counts = cgf1.count(results)
    metrics = {
        name: float(value) for name, value in cgf1.scores(counts.weighted(np.ones(len(counts.fp_absent)))).items()
    }
    return {
        **scene_metrics(predict_scenes(predictor, num_scenes), threshold),
        "valid_f1": metrics["f1_50"],
        "valid_map_segm": mean_ap(AveragePrecision(results, "segm").values),
        "valid_cgf1": metrics["cgf1"],
        "foreign_firing": float(np.mean(list(unrelated.values()))),
        "foreign_firing_worst_word": max(unrelated.values()),
        "exemplar_f1": exemplar_f1(predictor, objects_by_phrase(valid)),
        "exemplar_scenes_f1": exemplar_f1(predictor, objects_by_kind(min(num_scenes, 60))),
        "seconds_per_image": seconds_per_image(predictor, valid.images),
    }


def scene_metrics(results: SceneResults, threshold: float | None = None) -> dict[str, float]:
    """F1 and false firing on scenes at a score threshold; None takes the one with the best F1."""
    threshold = results.best_threshold() if threshold is None else threshold
    return {
        "scenes_threshold": threshold,
        "scenes_f1": results.sweep.at(threshold).f1,
        "scenes_false_firing": results.false_firing(threshold),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=0, help="runs to train, with seeds 0, 1, ...")
    parser.add_argument("--set", nargs="*", default=[], help="settings other than the default, as training.epochs=3")
    parser.add_argument("--base", default="demo", help="the base model, or a folder with another")
    parser.add_argument("--healthy", type=Path, help="write the ranges of the runs' losses there, as JSON")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write f1, kept, foreign, routed and cpu_seconds of each seed there")
    arguments = parser.parse_args()
    valid = open_dataset("demo").split("valid")
    predictor = Predictor.load(arguments.base)
    base = measure(predictor, valid, arguments.scenes)
    print("base", json.dumps(rounded(base)), flush=True)
    for seed in range(1, arguments.seeds):
        print(
            "base, other scenes", json.dumps(rounded(scene_metrics(predict_scenes(predictor, arguments.scenes, seed))))
        )
    settings = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in arguments.set)}
    trained, metrics = [], []
    for seed in range(arguments.seeds):
        fixed = {"training.seed": seed, "output.runs": str(arguments.runs), "model.base": arguments.base}
        config = demo_config().with_settings({**fixed, **settings})
        started, cpu = time.time(), time.process_time()
        run = Run.create(config)
        fit(run)
        seconds, cpu_seconds = time.time() - started, time.process_time() - cpu
        metrics.append(run.metrics()[0])
        adapter = run.folder / "adapters" / "best"
        trained_predictor = Predictor.load(arguments.base, adapter)
        values = measure(trained_predictor, valid, arguments.scenes, base["scenes_threshold"])
        routing = Routing.of(adapter)
        routed = predict_scenes(trained_predictor, arguments.scenes, routing=routing)
        routed_f1 = routed.sweep.at(base["scenes_threshold"]).f1
        trained.append(
            {
                **values,
                "scenes_f1_kept": values["scenes_f1"] / base["scenes_f1"],
                "routed_scenes_f1_kept": routed_f1 / base["scenes_f1"],
                "routed_foreign_firing": float(
                    np.mean([*unrelated_firing(trained_predictor, valid.images, routing).values()])
                ),
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
            }
        )
        print("seed", seed, json.dumps(rounded(trained[-1])), flush=True)
    if trained:
        for name, of in (("mean", np.mean), ("lowest", np.min), ("highest", np.max)):
            print(name, json.dumps(rounded({key: float(of([one[key] for one in trained])) for key in trained[0]})))
    if arguments.json:
        names = {"f1": "valid_f1", "kept": "scenes_f1_kept", "foreign": "foreign_firing", "cpu_seconds": "cpu_seconds"}
        names |= {"routed_kept": "routed_scenes_f1_kept", "routed_foreign": "routed_foreign_firing"}
        of_seeds = [{short: each[name] for short, name in names.items()} for each in trained]
        arguments.json.write_text(json.dumps({"settings": arguments.set, "seeds": of_seeds}, indent=1) + "\n")
    if arguments.healthy and trained:
        about = f"Lowest and highest mean over {WINDOW} steps of each weighted term in {len(trained)} runs of the demo"
        save_stages(measure_stages(metrics), arguments.healthy, f"{about}: scripts/measure_demo.py.")


def rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    main()
