"""The model card of a saved adapter: what it was trained on, with which settings, and how to load it."""

from __future__ import annotations

import json
from pathlib import Path

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Split
from sam3_lora.train.checkpoint import Progress
from sam3_lora.train.setup import Setup

_MAX_CATEGORIES = 40

# The padded box brings SAM 3's geometry token into the prompt, which it always had in training.
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
)  # no example box: -10 marks padding
with torch.inference_mode():
    outputs = model(**inputs)
found = processor.post_process_instance_segmentation(outputs, threshold=0.5, target_sizes=[image.size[::-1]])[0]
print(found["scores"], found["boxes"])  # found["masks"]: one per object
"""


def model_card(setup: Setup, progress: Progress, kind: str) -> str:
    """README.md for an adapter's folder, Markdown with the Hub's header.

    Args:
        kind: "best" or "last".
    """
    config = setup.config
    phrases = [phrase_of(name, config.data.category_phrases) for name in setup.categories]
    return "\n".join(
        (
            _header(config),
            f"# {config.output.name}: a LoRA adapter for SAM 3",
            "",
            f"The {'best adapter so far by its validation loss' if kind == 'best' else 'adapter'} after "
            f"{progress.step} of {setup.length.total_steps} steps, trained with SAM 3 LoRA Studio.",
            "",
            "## Trained on",
            "",
            f"`{Path(config.data.path).name}`: {_content(setup.train_split)}; measured on "
            + (f"{_content(setup.valid_split)}." if setup.valid_split else "nothing."),
            "",
            f"Phrases: {_listed(phrases)}. Each image was asked for {config.data.num_negatives} phrases that nothing "
            "in it answers.",
            "",
            "## Numbers",
            "",
            _numbers(progress),
            "",
            "## Settings",
            "",
            "```yaml",
            _settings(config),
            "```",
            "",
            "## Loading it",
            "",
            "```python",
            loading_code(config.model.base, phrases[0] if phrases else "object").rstrip(),
            "```",
            "",
            "In SAM 3 LoRA Studio: `Predictor.load(base, adapter)`, or the inference page.",
            "",
        )
    )


def loading_code(base: str, phrase: str) -> str:
    """Python that loads the adapter with PEFT and finds a phrase in an image."""
    path = '"assets/demo/model"  # in the app\'s own folder' if base == DEMO else json.dumps(base)
    return _LOADING.format(base=path, phrase=json.dumps(phrase, ensure_ascii=False))


def _header(config: RunConfig) -> str:
    lines = ["---", "library_name: peft", "tags: [sam3, lora, segmentation]"]
    if "/" in config.model.base and not Path(config.model.base).exists():  # a repository on the Hub
        lines.insert(1, f"base_model: {config.model.base}")
    return "\n".join([*lines, "---", ""])


def _content(split: Split) -> str:
    return f"{len(split.images)} images with {split.num_objects} objects ({split.name})"


def _listed(phrases: list[str]) -> str:
    more = len(phrases) - _MAX_CATEGORIES
    return ", ".join(phrases[:_MAX_CATEGORIES]) + (f" and {more} more" if more > 0 else "")


def _numbers(progress: Progress) -> str:
    if progress.best_loss is None:
        return "There was no validation."
    return f"Best validation loss: {progress.best_loss:.4f}, after step {progress.best_step}."


def _settings(config: RunConfig) -> str:
    """Model, adapter, loss and training as in the run's config.yaml; paths of the machine are left out."""
    places = {
        "output.runs": "runs",
        "data.path": Path(config.data.path).name,
        "data.image_dir": Path(config.data.image_dir).name,
        "model.adapter": config.model.adapter_name,
    }
    return config.with_settings(places).to_yaml().rstrip()
