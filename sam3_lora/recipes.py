"""Settings that go together: presets of the adapter, and a recipe for each kind of base model and size of dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.config.fields import AUTO
from sam3_lora.errors import ConfigError

FUSION = ["detr_encoder", "detr_decoder", "presence_head", "mask_decoder", "scoring"]
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "minimal": (
        "Trains fastest, forgets least: attention layers of the DETR decoder, and scoring.",
        {
            "lora.components": ["detr_decoder", "scoring"],
            "lora.modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "lora.rank": 8,
            "lora.alpha": 16.0,
        },
    ),
    "fusion": (
        "The recipe for SAM 3: what joins image and phrase and decides what is there (DETR encoder and decoder, "
        "scoring, presence head, mask decoder). The vision encoder stays as it is.",
        {"lora.components": FUSION},
    ),
    "balanced": (
        "The default for the demo: attention and MLP layers of all components but text encoder and presence head.",
        {},
    ),
    "maximum": (
        "Fits the dataset most, forgets most: like balanced with twice the rank, for large or very unusual datasets.",
        {"lora.rank": 32, "lora.alpha": 64.0},
    ),
}


def preset(name: str) -> RunConfig:
    """The default configuration with a preset's settings. Raises ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset '{name}'", f"Choose one of {', '.join(PRESETS)}")
    return RunConfig().with_settings(PRESETS[name][1])


BaseKind = Literal["demo", "sam3"]
Size = Literal["few", "hundreds", "many"]
MAX_FEW, MAX_HUNDREDS = 10, 300  # training images
UNCONFIRMED = "Not yet confirmed on real weights"
_SIZES: dict[Size, str] = {
    "few": f"up to {MAX_FEW} images",
    "hundreds": f"{MAX_FEW + 1} to {MAX_HUNDREDS} images",
    "many": f"more than {MAX_HUNDREDS} images",
}


@dataclass(frozen=True)
class Advice:
    """One value of a recipe."""

    setting: str  # dotted
    value: Any
    source: str  # where the value comes from, without a full stop
    confirmed: bool  # whether training with it on this kind of base has been measured

    @property
    def reason(self) -> str:
        """Why this value, as one or two sentences."""
        return f"{self.source}." + ("" if self.confirmed else f" {UNCONFIRMED}.")


@dataclass(frozen=True)
class Recipe:
    """The settings to begin with, for a kind of base model and a size of dataset."""

    base: BaseKind
    size: Size
    advice: tuple[Advice, ...]

    @property
    def values(self) -> dict[str, Any]:
        """Dotted setting -> value."""
        return {each.setting: each.value for each in self.advice}

    @property
    def confirmed(self) -> bool:
        """Whether every value is."""
        return all(each.confirmed for each in self.advice)

    @property
    def title(self) -> str:
        """What it is for: "Recipe for SAM 3 on up to 10 images"."""
        if self.base == "demo":
            return "Recipe for the demo model"
        return f"Recipe for SAM 3 on {_SIZES[self.size]}"


def recipe_for(base: str, images: int | None) -> Recipe:
    """The recipe for a base model and a dataset.

    Args:
        base: ``model.base``.
        images: to train on; None where that is unknown, which counts as hundreds.
    """
    size: Size = "hundreds"
    if images is not None and images <= MAX_FEW:
        size = "few"
    elif images is not None and images > MAX_HUNDREDS:
        size = "many"
    if base == DEMO:
        return Recipe("demo", size, _DEMO)
    column = ("few", "hundreds", "many").index(size)
    advice = (Advice(setting, values[column], source, confirmed=False) for setting, values, source in _SAM3)
    return Recipe("sam3", size, tuple(advice))


def _same(value: Any) -> tuple[Any, Any, Any]:
    return value, value, value


# Setting; its values for a few, for hundreds and for many images; where they come from. Published for full fine-tuning,
# for other implementations, or reported by one author: none is measured yet on real weights with this project.
_SAM3: tuple[tuple[str, tuple[Any, Any, Any], str], ...] = (
    (
        "lora.components",
        (FUSION, FUSION, ["vision_encoder", *FUSION]),
        "One author reports that adapting the DETR encoder alone closed 92 % of the gap but lost the refusal of absent "
        "words (from 95.8 to 3.2 %), which the presence head brought back to 87.9 %; Meta fine-tunes vision too",
    ),
    ("lora.rank", _same(16), "The default; LoRA on SAM 3 elsewhere used 32"),
    ("lora.alpha", _same(32.0), "Twice the rank, as is usual"),
    ("training.learning_rate", _same(1e-4), "LoRA on SAM 3 elsewhere: 1e-4 for 1,000 steps, 5e-5 with rank 32"),
    (
        "training.vision_lr_factor",
        _same(0.3333),
        "Meta's fine-tuning configuration: 2.5e-5 for vision beside 8e-5 for the rest",
    ),
    (
        "training.epochs",
        (40, 20, 10),
        "SAM 3's paper, few-shot: 40 epochs; Meta's fine-tuning configuration: 20 epochs on 100 images; fewer on more",
    ),
    ("training.batch_size", _same(AUTO), "SAM 3's paper, few-shot: 2 images per step"),
    ("training.gradient_accumulation_steps", _same(1), "SAM 3's paper, few-shot: 2 images per step"),
    ("training.max_grad_norm", _same(0.1), "Meta's fine-tuning configuration"),
    (
        "augmentation.scale_min",
        _same(0.476),
        "Meta's fine-tuning configuration: images of 480 to 1008 pixels, padded to 1008",
    ),
    (
        "augmentation.crop_min",
        (0.7, 0.7, 1.0),
        "Usual for detectors where there are few images, as DETR's random crops",
    ),
    (
        "augmentation.color_jitter",
        (0.2, 0.2, 0.0),
        "Usual where there are few images, which light and camera make alike; off in Meta's fine-tuning configuration",
    ),
    (
        "augmentation.boxes_added",
        _same(0.1),
        "SAM 3 was trained with exemplar boxes beside words; without any, prompts by boxes may be forgotten",
    ),
    (
        "augmentation.word_dropped",
        _same(0.1),
        "SAM 3 was trained with exemplar boxes instead of words, as the phrase 'visual'",
    ),
    (
        "replay.source",
        _same("own"),
        "SAM 3's paper mixes a new domain with general data, half and half; here the base's own answers stand for that",
    ),
    (
        "replay.weight",
        _same(2.0),
        "The default, which the first trials on the demo had; its own recipe weighs more, at higher learning rates",
    ),
    (
        "data.min_foreign",
        _same(2),
        "Foreign words fired in 2.5 % of the demo's images without any among the negatives",
    ),
    (
        "data.num_negatives",
        _same(5),
        "SAM 3's paper: 0, 5, 15 and 30 negatives per image give a cgF1 of 28.3, 39.4, 41.8 and 43.0",
    ),
)


# A small model that learns from few images in minutes: measured by scripts/measure_demo.py, see docs/demo.md.
_MEASURED_ON_DEMO: dict[str, Any] = {
    "training.epochs": 18,
    "training.learning_rate": 1.2e-3,
    "training.vision_lr_factor": 0.333,
    "replay.weight": 6.0,
}


def _demo_values() -> tuple[Advice, ...]:
    """What was measured on the demo, for every setting that a recipe has; the defaults where that is nothing else."""
    values = RunConfig().with_settings(_MEASURED_ON_DEMO).model_dump()
    settings = dict.fromkeys([*(setting for setting, _, _ in _SAM3), *_MEASURED_ON_DEMO])
    return tuple(
        Advice(setting, values[setting.split(".")[0]][setting.split(".")[1]], "Measured on the demo", confirmed=True)
        for setting in settings
    )


_DEMO = _demo_values()


def demo_config() -> RunConfig:
    """The settings of the demo, with which the app begins."""
    return RunConfig().with_settings(recipe_for(DEMO, None).values)
