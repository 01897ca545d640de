"""The model card of a saved adapter: what it was trained on, with which settings, and how to load it."""

from __future__ import annotations

import json
from pathlib import Path

from sam3_lora.config import DEMO, ModelConfig, RunConfig
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Split
from sam3_lora.markdown import code_block, escape
from sam3_lora.runs.metrics import BEST_BY
from sam3_lora.text import first_names
from sam3_lora.train.checkpoint import Progress
from sam3_lora.train.setup import Setup

_MAX_CATEGORIES = 40

# The padded box adds SAM 3's geometry token to the prompt, as in training.
_LOADING = """\
import torch
from peft import PeftModel
from PIL import Image
from transformers import Sam3Model, Sam3Processor

base = {base}
adapter = "path/to/this/folder"
processor = Sam3Processor.from_pretrained(base)
model = PeftModel.from_pretrained(Sam3Model.from_pretrained(base, dtype=torch.float32), adapter).eval()
image = Image.open("image.jpg").convert("RGB")
inputs = processor(
    images=image, text={phrase}, input_boxes=[[[0, 0, 1, 1]]], input_boxes_labels=[[-10]], return_tensors="pt"
)  # no exemplar box: -10 marks padding
with torch.inference_mode():
    outputs = model(**inputs)
found = processor.post_process_instance_segmentation(outputs, threshold=0.5, target_sizes=[image.size[::-1]])[0]
print(found["scores"], found["boxes"])  # found["masks"]: one per object
"""
# PEFT's own loading knows neither another image size nor Meta's checkpoint.
_LOADING_HERE = """\
from sam3_lora.predict import Predictor

predictor = Predictor.load({base}, "path/to/this/folder")  # with the image size of the training
predictor.set_image("image.jpg")
found = predictor.prompt([{phrase}], threshold=0.5)[{phrase}]
print(found.scores, found.boxes_xyxy)  # found.masks: one per object
"""
_CARD = """\
{header}
# {name}: a LoRA adapter for SAM 3

The {kind} after {step} of {total_steps} steps, trained with SAM 3 LoRA Studio.

## Trained on

{dataset}: {train}; validated on {valid}.

Phrases: {phrases}. Those that had objects in the training images are in `taught_phrases.json`: "Route by phrase" leaves
all others to the base model.

Negative phrases per image: {num_negatives}.

## Numbers

{numbers}

## Settings

{settings}

## Loading

{loading}

In SAM 3 LoRA Studio: `Predictor.load(base, adapter)`, or the inference page.
"""


def model_card(setup: Setup, progress: Progress, kind: str) -> str:
    """README.md for an adapter's folder: Markdown with the Hub's header.

    Args:
        setup: the run.
        progress: how far it has come.
        kind: "best" or "last".
    """
    config, splits = setup.config, setup.data.splits
    phrases = [phrase_of(name, config.data.category_phrases) for name in splits.categories]
    return _CARD.format(
        header=_header(config),
        name=escape(config.output.name),
        kind=f"best adapter so far by its {BEST_BY[progress.best_by]}" if kind == "best" else "adapter",
        step=progress.step,
        total_steps=setup.plan.total_steps,
        dataset=escape(Path(config.data.path).name),
        train=_content(splits.train),
        valid=_content(splits.valid) if splits.valid else "nothing",
        phrases=escape(first_names(phrases, _MAX_CATEGORIES)),
        num_negatives=config.data.num_negatives,
        numbers=_numbers(progress),
        settings=code_block("yaml", _settings(config)),
        loading=code_block("python", loading_code(config.model, phrases[0] if phrases else "object")),
    )


def loading_code(model: ModelConfig, phrase: str) -> str:
    """Python that loads the adapter, with PEFT if it can, and finds a phrase in an image."""
    base = model.base
    if model.image_size is not None or base.endswith(".pt"):
        return _LOADING_HERE.format(base=json.dumps(base), phrase=json.dumps(phrase, ensure_ascii=False))
    path = '"assets/demo/model"  # in the app\'s own folder' if base == DEMO else json.dumps(base)
    return _LOADING.format(base=path, phrase=json.dumps(phrase, ensure_ascii=False))


def _header(config: RunConfig) -> str:
    lines = ["---", "library_name: peft", "tags: [sam3, lora, segmentation]"]
    if "/" in config.model.base and not Path(config.model.base).exists():  # a repository on the Hub
        lines.insert(1, f"base_model: {json.dumps(config.model.base)}")
    return "\n".join([*lines, "---", ""])


def _content(split: Split) -> str:
    return f"{len(split.images)} images with {split.num_objects} objects ({escape(split.name)})"


def _numbers(progress: Progress) -> str:
    if progress.best_loss is None:
        return "There was no validation."
    lowest = f"Lowest validation loss: {progress.best_loss:.4f}."
    if progress.best_value is None:
        return lowest
    best = f"Best {BEST_BY[progress.best_by]}: {progress.best_value:.4f}, after step {progress.best_step}."
    return best if progress.best_by == "loss" else f"{best} {lowest}"


def _settings(config: RunConfig) -> str:
    """Model, adapter, loss and training as in the run's config.yaml; paths of the machine are left out."""
    places = {
        "output.runs": "runs",
        "data.path": Path(config.data.path).name,
        "data.edits": Path(config.data.edits).name,
        "data.image_dir": Path(config.data.image_dir).name,
        "model.adapter": config.model.adapter_name,
        "model.processor": _without_folders(config.model.processor),
    }
    return config.with_settings(places).to_yaml()


def _without_folders(name: str) -> str:
    """The last part of a path on this machine; a repository's name as it is."""
    return Path(name).name if Path(name).exists() else name
