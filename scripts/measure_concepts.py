"""Measures learned concepts on the demo: the F1 that a few examples of a category reach, with no weight trained.

    python -m scripts.measure_concepts [--shots 1 3 5 10] [--seeds 3] [--lora-epochs 18 60] [--json FILE]

Each seed draws other examples: images of the training split with objects of the category, and as many without. F1 (IoU
0.5) is of the validation split, at score 0.5 and at the best threshold; false firing is the share of images without
the category in which something is predicted. LoRA is trained on the same images, masks and all. Beside them: boxes on
the same examples, asked of other images without learning, and a box on one object of the image itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam3_lora.concepts.learn import Example, LearnOptions, learn
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.file import write_edits
from sam3_lora.data.edits.kinds import EditList, ExcludeImages
from sam3_lora.data.images import load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import ImageRecord, Split
from sam3_lora.evaluate.precision_recall_f1 import ThresholdSweep
from sam3_lora.evaluate.predictions import SCORE_THRESHOLD
from sam3_lora.masks import decode_segmentation, mask_to_box_xyxy
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.references import Reference
from sam3_lora.recipes import demo_config
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from scripts.measure_demo import true_positives

NAME = "learned"
_LOWEST = 0.05


def masks_of(record: ImageRecord, category: str) -> list[np.ndarray]:
    size_hw = (record.height, record.width)
    return [decode_segmentation(one.segmentation, size_hw) for one in record.annotations if one.category == category]


def draw(split: Split, category: str, shots: int, seed: int) -> list[ImageRecord]:
    """Images with the category, then as many without."""
    rng = np.random.default_rng(seed)
    with_it = [record for record in split.images if any(one.category == category for one in record.annotations)]
    without = [record for record in split.images if not any(one.category == category for one in record.annotations)]
    return [part[place] for part in (with_it, without) for place in rng.permutation(len(part))[:shots]]


def scores_of(
    predictor: Predictor,
    prompt: str,
    split: Split,
    category: str,
    references: Sequence[Reference] = (),
    on_image: bool = False,
) -> dict[str, float]:
    """F1 and false firing of a prompt for a category.

    Args:
        predictor: the model.
        prompt: a phrase or a concept; "" for boxes alone.
        split: to measure on.
        category: what is meant.
        references: boxes on other images.
        on_image: whether the first object of each image is shown by a box on itself, which images without one lack.
    """
    scores, is_tp, num_objects, fired = list[float](), list[bool](), 0, list[bool]()
    for record in split.images:
        pixels, gt = load_image(record), masks_of(record, category)
        shown: Exemplars | Sequence[Reference] | None = references or None
        if on_image and not gt:
            continue
        if on_image:
            shown = exemplars([mask_to_box_xyxy(gt[0])])
        predictor.set_image(pixels)
        results = predictor.prompt([prompt] if prompt else [], _LOWEST, exemplars=shown)
        (found,) = postprocess_all(results, PostprocessConfig(_LOWEST)).values()
        num_objects += len(gt)
        scores += found.scores.tolist()
        is_tp += true_positives(found, gt)
        if not gt:
            fired.append(bool((found.scores >= SCORE_THRESHOLD).any()))
    sweep = ThresholdSweep(np.array(scores), np.array(is_tp, bool), num_objects)
    best = sweep.best_threshold() or SCORE_THRESHOLD
    return {
        "f1": sweep.at(SCORE_THRESHOLD).f1,
        "best_f1": sweep.at(best).f1,
        "false_firing": float(np.mean(fired)) if fired else 0.0,
    }


def exemplars(boxes_xyxy: Sequence) -> Exemplars:
    return Exemplars(np.array(boxes_xyxy, np.float32), np.ones(len(boxes_xyxy), bool))


def reference_rows(
    predictor: Predictor, records: Sequence[ImageRecord], category: str, valid: Split
) -> dict[str, dict[str, float]]:
    """Asked of other images without learning: boxes on the examples, alone and with the phrase."""
    examples = [Example.of_masks(load_image(record), masks_of(record, category)) for record in records]
    references = [Reference(one.image, exemplars(one.boxes_xyxy)) for one in examples if len(one.boxes_xyxy)]
    started = time.process_time()
    alone = scores_of(predictor, "", valid, category, references)
    seconds = {"cpu_s": (time.process_time() - started) / len(valid.images)}
    with_phrase = scores_of(predictor, phrase_of(category), valid, category, references)
    return {"references": alone | seconds, "references and phrase": with_phrase | seconds}


def concept_row(
    predictor: Predictor,
    records: Sequence[ImageRecord],
    category: str,
    valid: Split,
    options: LearnOptions,
    boxes: bool,
) -> dict[str, float]:
    examples = [Example.of_masks(load_image(record), masks_of(record, category)) for record in records]
    if boxes:
        examples = [Example(one.image, one.boxes_xyxy) for one in examples]
    started = time.process_time()
    concept = learn(predictor, NAME, examples, options=options)
    seconds = time.process_time() - started
    predictor.concepts.add(concept)
    return scores_of(predictor, f"<{NAME}>", valid, category) | {"cpu_s": seconds}


def lora_row(records: Sequence[ImageRecord], category: str, valid: Split, epochs: int, seed: int) -> dict[str, float]:
    """The default run on the same images, all categories in them."""
    names = {record.file_name for record in records}
    with tempfile.TemporaryDirectory() as work:
        others = tuple(name for name in open_dataset("demo").split("train").images.names if name not in names)
        edits = Path(work) / "edits.yaml"
        write_edits(edits, EditList((ExcludeImages("train", others),)))
        settings = {
            "data.edits": str(edits),
            "training.seed": seed,
            "training.epochs": epochs,
            "output.runs": work,
        }
        run = Run.create(demo_config().with_settings(settings))
        started = time.process_time()
        fit(run)
        seconds = time.process_time() - started
        predictor = Predictor.load("demo", run.folder / "adapters" / "last", "cpu")
        return scores_of(predictor, phrase_of(category), valid, category) | {"cpu_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=LearnOptions.steps)
    parser.add_argument("--tokens", type=int, default=LearnOptions.tokens)
    parser.add_argument("--rate", type=float, default=LearnOptions.rate)
    parser.add_argument("--boxes", action="store_true", help="learn from boxes without masks, too")
    parser.add_argument("--lora-epochs", type=int, nargs="*", default=[])
    parser.add_argument("--lora-shots", type=int, nargs="+", help="numbers of examples to train LoRA on; default: all")
    parser.add_argument("--categories", nargs="+")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    dataset = open_dataset("demo")
    train, valid = dataset.split("train"), dataset.split("valid")
    predictor = Predictor.load("demo", device="cpu")
    rows = []
    for category in arguments.categories or dataset.categories:
        rows.append({"category": category, "way": "phrase"} | scores_of(predictor, category, valid, category))
        print(json.dumps(rows[-1]), flush=True)
        same = scores_of(predictor, "", valid, category, on_image=True)
        rows.append({"category": category, "way": "a box on the same image"} | same)
        print(json.dumps(rows[-1]), flush=True)
        for shots in arguments.shots:
            for seed in range(arguments.seeds):
                records = draw(train, category, shots, seed)
                options = LearnOptions(arguments.tokens, arguments.steps, arguments.rate, seed=seed)
                head = {"category": category, "shots": shots, "seed": seed}
                for way, found in reference_rows(predictor, records, category, valid).items():
                    rows.append(head | {"way": way} | found)
                    print(json.dumps(rows[-1]), flush=True)
                for boxes in (False, True)[: 1 + arguments.boxes]:
                    found = concept_row(predictor, records, category, valid, options, boxes=boxes)
                    rows.append(head | {"way": "concept, boxes" if boxes else "concept"} | found)
                    print(json.dumps(rows[-1]), flush=True)
                with_lora = arguments.lora_shots is None or shots in arguments.lora_shots
                for epochs in arguments.lora_epochs if with_lora else []:
                    found = lora_row(records, category, valid, epochs, seed)
                    rows.append(head | {"way": f"LoRA, {epochs} epochs"} | found)
                    print(json.dumps(rows[-1]), flush=True)
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def print_table(rows: list[dict]) -> None:
    """The mean over categories and seeds of each way and number of examples."""
    keys = dict.fromkeys((row["way"], row.get("shots", 0)) for row in rows)
    print("way, examples: F1 at 0.5, best F1, false firing, CPU seconds")
    for way, shots in keys:
        same = [row for row in rows if (row["way"], row.get("shots", 0)) == (way, shots)]
        means = [np.mean([row.get(name, 0.0) for row in same]) for name in ("f1", "best_f1", "false_firing", "cpu_s")]
        print(f"{way}, {shots}: " + ", ".join(f"{mean:.3f}" for mean in means))


if __name__ == "__main__":
    main()
