"""The problems of a configuration in words: what is wrong, and the fix."""

from __future__ import annotations

from collections.abc import Callable

from sam3_lora.config import RunConfig
from sam3_lora.text import first_names, plural
from sam3_lora.train.memory import advice, describe_change
from sam3_lora.train.preflight.checks import Problem


def describe(problem: Problem, config: RunConfig) -> tuple[str, str]:
    """The message and the fix, each as sentences.

    Args:
        problem: what was found.
        config: the configuration that was checked.
    """
    if problem.cause is not None:
        prefix = "Dataset: " if problem.kind == "dataset" else ""
        return f"{prefix}{problem.cause.message.rstrip('.')}.", f"{problem.cause.fix.rstrip('.')}."
    return _MESSAGES[problem.kind](problem, config)


_MESSAGES: dict[str, Callable[[Problem, RunConfig], tuple[str, str]]] = {
    "few-images": lambda it, _: (
        f"There are only {it.value} images to learn from: the adapter will overfit.",
        "Add images, or choose few epochs and a low rank.",
    ),
    "step-exceeds-dataset": lambda it, _: (
        f"Each step is to learn from {it.value} images, but there are only {it.limit}: an epoch is a single step.",
        "Lower training.batch_size or training.gradient_accumulation_steps.",
    ),
    "no-negatives": lambda it, _: (
        f"{'Only images without objects have' if it.value else 'No image has'} negative phrases, so the adapter will "
        "find something for every phrase.",
        "Set data.num_negatives to 3 or more.",
    ),
    "objects-in-no-tile": lambda it, config: (
        f"{it.value:,} of {it.limit:,} objects are in no tile as objects, so they are not learned: they are too large "
        f"for tiles of {config.data.tiles} pixels, and have no mask that could be cut.",
        "Raise data.tiles or data.tile_overlap, or annotate masks (polygons).",
    ),
    "no-masks": lambda it, _: (
        "No object has a mask, only boxes: mask_decoder has nothing to learn from, and its adapter would do nothing.",
        "Take mask_decoder out of lora.components, or annotate masks (polygons).",
    ),
    "no-validation": lambda it, _: (
        f"{f'{it.splits.sentence} ' if it.splits and it.splits.held_out else ''}Without validation overfitting cannot "
        "be seen, and no adapter is kept as best.",
        "Add images." if it.splits and it.splits.held_out else "Set data.valid_split.",
    ),
    "held-out-alike": lambda it, _: (
        "Most images look alike (one camera, or frames of one video), so held-out images resemble those trained on: "
        "validation looks better than it is.",
        "Make a split of images taken elsewhere or later, and set data.valid_split to it.",
    ),
    "validation-is-training": lambda it, _: (
        f"The run is validated on '{it.names[0]}', the images it is trained on.",
        "Set data.valid_split to another split.",
    ),
    "validation-without-objects": lambda it, _: (
        f"The split '{it.names[0]}', which the run is validated on, has no annotated object: there is no F1, and "
        "its loss, by which the best adapter is chosen, says nothing about what is learned.",
        "Annotate its images, or set data.valid_split to another split.",
    ),
    "unknown-sample-images": lambda it, _: (
        f"output.sample_images names images that the split '{it.names[0]}' does not have: {first_names(it.names[1:])}.",
        "Correct the names, or leave the list empty for the first four images with objects.",
    ),
    "unknown-categories": lambda it, _: (
        f"data.category_phrases names categories that the dataset does not have: {first_names(it.names)}.",
        "Use the names of the dataset's categories, which the dataset page lists.",
    ),
    "unreadable-images": lambda it, _: (
        f"{it.value} of {plural(int(it.limit), 'image')} that were opened cannot be read ({first_names(it.names)}): "
        "they are left out of training and validation.",
        "Replace the files, or delete their entries from the annotation file.",
    ),
    "high-learning-rate": lambda it, _: (
        f"A learning rate of {it.value:g} is so high that training will most likely diverge.",
        "Set training.learning_rate to 5e-4 or less.",
    ),
    "shorter-than-an-epoch": lambda it, _: (
        f"The run ends after {plural(int(it.value), 'step')}, before it has seen every image once "
        f"({plural(int(it.limit), 'step')}).",
        "Raise training.max_steps, or leave it empty.",
    ),
    "warmup-shortened": lambda it, config: (
        f"The run has only {plural(int(it.limit), 'step')}, and the warm-up may take half of it: it is shortened from "
        f"{config.training.warmup_steps:,} to {plural(int(it.value), 'step')}.",
        "Lower training.warmup_steps, or train longer.",
    ),
    "text-encoder": lambda it, _: (
        "The text encoder is adapted too: with a few hundred phrases SAM 3 forgets its other words.",
        "Remove it from lora.components.",
    ),
    "vision-cache-off": lambda it, _: (
        "The frozen vision encoder runs in every step: augmentation makes other pixels of an image each time, so "
        "nothing can be kept.",
        "For faster steps leave only flips on: augmentation.scale_min and crop_min at 1, the others at 0.",
    ),
    "fp32-on-gpu": lambda it, _: (
        "fp32 needs about twice the memory and time of bf16 on this GPU.",
        "Set training.precision to bf16.",
    ),
    "disk": lambda it, config: (
        f"The run needs {it.value / 1e9:.2g} GB in {config.output.runs}, but {it.limit / 1e9:.2g} GB are free there.",
        "Free some space, choose another folder in output.runs, or lower training.keep_checkpoints.",
    ),
    "out-of-memory": lambda it, config: (
        f"A step on the heaviest images does not fit into the memory of the device ({it.limit / 1e9:.1f} GB).",
        f"One of these makes it fit: {'; '.join(map(describe_change, it.changes))}."
        if it.changes
        else f"{advice(config)}.",
    ),
    "memory-almost-full": lambda it, config: (
        f"The heaviest step takes {it.value / 1e9:.1f} of {it.limit / 1e9:.1f} GB: it may not fit later.",
        f"{advice(config)}.",
    ),
    "no-gradient": lambda it, _: (
        f"No gradient reaches {it.names[0]}: its {it.value} adapted modules would stay as they are, a silent no-op.",
        "Give the loss terms that depend on it a weight, or remove it from lora.components.",
    ),
}
