"""Every setting of a run: its bounds, its default and its meaning, declared once.

The form in the app, the command line, the commented YAML and the documentation all read this file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from sam3_lora.config_errors import Loader, did_you_mean, explain, together
from sam3_lora.errors import ConfigError
from sam3_lora.text import short

DEMO = "demo"  # names the model and the dataset that ship with the app
ASSETS = Path(__file__).resolve().parent.parent / "assets"

Component = Literal[
    "vision_encoder",
    "text_encoder",
    "geometry_encoder",
    "detr_encoder",
    "detr_decoder",
    "mask_decoder",
    "scoring",
]
Flip = Literal["none", "horizontal", "both"]
ModuleKind = Literal["q_proj", "k_proj", "v_proj", "o_proj", "mlp"]
Words = Annotated[str, StringConstraints(pattern=r"\w", max_length=200)]


# Settings of older files, runs and links -> what they are called today.
RENAMED = {
    "data.images": "data.image_dir",
    "data.phrase": "data.default_phrase",
    "data.phrases": "data.category_phrases",
    "training.accumulation": "training.gradient_accumulation_steps",
}


class Section(BaseModel):
    """A group of settings. Unknown names are errors: a typo must not silently leave a default in force."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses true for a number, which pydantic takes for 1, and the zero character, which no path may hold."""
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation in (int, float, int | None):
            raise PydanticCustomError("number", "expected a number")
        if isinstance(value, str) and "\0" in value:
            raise PydanticCustomError("zero", "expected text without the character 0")
        return value


class DataConfig(Section):
    """Which images are learned from, and which phrases each is asked for."""

    path: str = Field(
        DEMO, min_length=1, description="Folder of a COCO dataset, or 'demo' for the one that ships with the app."
    )
    image_dir: str = Field(
        "", description="A further folder to look for the images in; empty where they lie with the annotations."
    )
    default_phrase: str = Field(
        "",
        max_length=200,
        description="Word for all objects where the annotations have no categories; empty for the folder's name.",
    )
    train_split: str = Field("train", min_length=1, description="Split to learn from.")
    valid_split: str = Field("valid", description="Split to measure on after each epoch; empty to measure on none.")
    num_negatives: int = Field(
        3,
        ge=0,
        le=32,
        description="Phrases asked of each image although nothing there answers them: "
        "without any, the adapter fires on every word.",
    )
    flip: Flip = Field(
        "horizontal",
        description="Mirror images half of the time, which makes few of them count for more: 'horizontal' left to "
        "right, 'both' also upside down (views from above), 'none' where left and right mean something.",
    )
    category_phrases: dict[str, Words] = Field(
        {},
        description="What SAM 3 is asked for a category, by the category's name, in words of up to 200 letters; a "
        "category that is not named here is asked by its own name.",
    )
    num_workers: int = Field(
        0, ge=0, le=32, description="Processes that load images; 0 loads them in the training process."
    )


class ModelConfig(Section):
    """Which SAM 3 the adapter is trained for, what it starts from, and how memory is saved."""

    base: str = Field(
        DEMO, min_length=1, description="'demo', a hub id such as facebook/sam3, or a folder saved by transformers."
    )
    adapter: str = Field(
        "",
        description="Folder of an adapter to go on from, such as runs/RUN/adapters/best; it must have the settings "
        "under lora. Empty to start afresh.",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute the activations of the vision encoder's layers and the mask decoder in the backward "
        "pass: less memory, about a third more time.",
    )

    @property
    def adapter_name(self) -> str:
        """The adapter without the way to its runs: "run/adapters/best"; "" if there is none."""
        return "/".join(Path(self.adapter).parts[-3:])


class AdapterConfig(Section):
    """Where the low-rank layers go and how large they are."""

    components: list[Component] = Field(
        ["vision_encoder", "geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "scoring"],
        min_length=1,
        description="Parts of SAM 3 to adapt. The text encoder is left out on purpose: a few hundred images hold too "
        "few phrases, and adapting it makes SAM 3 forget its other words.",
    )
    modules: list[ModuleKind] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "mlp"],
        min_length=1,
        description="Kinds of linear layers to adapt inside the components; with the MLP layers fewer epochs teach "
        "as much.",
    )
    rank: int = Field(
        16, ge=1, le=512, description="Rank of each low-rank update: more learns more, costs more and forgets more."
    )
    alpha: float = Field(
        32.0,
        gt=0,
        le=4096,
        description="Scale of the update; it acts as alpha / rank (alpha / sqrt(rank) with rsLoRA).",
    )
    dropout: float = Field(0.05, ge=0, lt=1, description="Share of the adapter's inputs that are dropped in training.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), which keeps high ranks learning.")
    dora: bool = Field(
        False, description="Learn magnitude and direction apart (DoRA): often better at low rank, slower."
    )

    @field_validator("components", "modules")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))


class LossConfig(Section):
    """Weights of the loss terms. The defaults are SAM 3's own; change them only with a reason."""

    loss_bbox: float = Field(5.0, ge=0, le=10_000, description="Weight of the L1 distance between boxes.")
    loss_giou: float = Field(2.0, ge=0, le=10_000, description="Weight of 1 - GIoU between boxes.")
    loss_ce: float = Field(20.0, ge=0, le=10_000, description="Weight of the classification of queries.")
    presence_loss: float = Field(
        20.0, ge=0, le=10_000, description="Weight of the decision whether the phrase is in the image at all."
    )
    loss_mask: float = Field(200.0, ge=0, le=10_000, description="Weight of the focal loss over mask pixels.")
    loss_dice: float = Field(10.0, ge=0, le=10_000, description="Weight of the dice loss over masks.")
    o2m_weight: float = Field(2.0, ge=0, le=100, description="Factor on every term of the one-to-many queries.")
    pos_weight: float = Field(10.0, gt=0, le=1_000, description="Factor on matched queries inside loss_ce.")
    normalization: Literal["local", "global"] = Field(
        "local", description="Divide by the objects of this process's batch, or by their average over all processes."
    )


class TrainingConfig(Section):
    """How long and how fast to learn."""

    epochs: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Passes over the training images. More learn more, and forget more of the rest.",
    )
    max_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="Stop after this many steps, whatever the epochs; empty for no limit."
    )
    batch_size: int = Field(2, ge=1, le=256, description="Images per forward pass and device.")
    gradient_accumulation_steps: int = Field(
        1,
        ge=1,
        le=256,
        description="Forward passes per step: the effective batch is batch_size x this x devices.",
    )
    learning_rate: float = Field(
        5e-4,
        gt=0,
        le=1,
        description="Peak learning rate of AdamW: higher learns faster, and forgets faster what the base model knew.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's weight decay.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup_steps: int = Field(20, ge=0, le=100_000, description="Steps over which the learning rate rises from zero.")
    max_grad_norm: float = Field(
        1.0, gt=0, le=1_000_000, description="Gradients longer than this are scaled down to it."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Numbers to compute with: bf16 on a recent GPU, fp32 on a CPU."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to train; auto takes a GPU where there is one."
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Fixes the order of images, the negatives and the adapter's first weights."
    )
    checkpoint_every: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="Steps between checkpoints to resume from; one is written after each epoch and at a stop in any "
        "case, 0 writes no others.",
    )
    keep_checkpoints: int = Field(
        2, ge=1, le=1_000, description="Checkpoints that are kept, the newest ones; each new one drops the oldest."
    )
    patience: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Finish early once so many epochs in a row have not lowered the best validation loss; 0 never "
        "does.",
    )


class OutputConfig(Section):
    """Where results go, and which images show what is learned."""

    runs: str = Field("runs", min_length=1, max_length=1_000, description="Folder that holds the runs.")
    name: str = Field(
        "run",
        min_length=1,
        max_length=60,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$",
        description="Name of the run: letters a to z, digits, spaces, dots, dashes.",
    )
    sample_images: list[str] = Field(
        [],
        description="File names of validation images that are predicted at each evaluation, to watch the run learn; "
        "empty for the first four with objects.",
    )

    @property
    def runs_folder(self) -> Path:
        """The folder that holds the runs, with ~ replaced by the user's own."""
        return Path(os.path.expanduser(self.runs))


class RunConfig(Section):
    """Everything one run needs to know."""

    data: Annotated[DataConfig, Field(default_factory=DataConfig)]
    model: Annotated[ModelConfig, Field(default_factory=ModelConfig)]
    lora: Annotated[AdapterConfig, Field(default_factory=AdapterConfig)]
    loss: Annotated[LossConfig, Field(default_factory=LossConfig)]
    training: Annotated[TrainingConfig, Field(default_factory=TrainingConfig)]
    output: Annotated[OutputConfig, Field(default_factory=OutputConfig)]

    @classmethod
    def from_yaml(cls, text: str, source: str = "the configuration") -> RunConfig:
        """Reads YAML; every problem is told at once.

        Raises:
            ConfigError: not YAML, not a mapping, or settings that are unknown, given twice or out of bounds.
        """
        try:
            values = yaml.load(text, Loader=Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            where = getattr(error, "problem_mark", None)
            line = f" (line {where.line + 1})" if where else ""
            raise ConfigError(
                f"Expected YAML in {source}, but it cannot be parsed{line}",
                "Compare it with the output of 'python -m sam3_lora config'",
            ) from None
        return cls.from_dict(values, source)

    @classmethod
    def from_dict(cls, values: Any, source: str = "the configuration") -> RunConfig:
        """Checks a nested mapping of settings. Raises ConfigError that names every problem, or the first of many."""
        if values is None:
            raise ConfigError(
                f"Expected settings in {source}, but it is empty",
                "Write a complete one with 'python -m sam3_lora config'",
            )
        if not isinstance(values, dict):
            raise ConfigError(
                f"Expected sections such as 'data:' and 'training:' in {source}, but found a {type(values).__name__}",
                "Compare it with the output of 'python -m sam3_lora config'",
            )
        try:
            return cls.model_validate(_with_current_names(values))
        except ValidationError as error:
            told = list(problems(error).values())
            where = f"In {source}: " if source else ""
            raise ConfigError(
                where + together(told), "Correct this setting" if len(told) == 1 else "Correct these settings"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> RunConfig:
        """Reads a YAML file. Raises ConfigError if it is missing, unreadable or wrong."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(
                f"Expected a configuration file at {path}, but there is none",
                "Write one with 'python -m sam3_lora config > my-run.yaml'",
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(
                f"Expected YAML text in {path}, but it is a binary file", "Give the path of a .yaml file"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read: {error.strerror}", "Give the path of a readable .yaml file"
            ) from None
        return cls.from_yaml(text, source=path.name)

    def with_settings(self, settings: dict[str, Any]) -> RunConfig:
        """A copy with dotted settings replaced, for example {"training.epochs": 2}. Raises ConfigError."""
        values = self.model_dump()
        for name, value in settings.items():
            section, _, field = RENAMED.get(name, name).partition(".")
            if section not in values or field not in values[section]:
                raise ConfigError(
                    f"There is no setting '{short(name)}'{did_you_mean(name, RunConfig)}",
                    "See 'python -m sam3_lora config' for all settings",
                )
            values[section][field] = value
        return RunConfig.from_dict(values, source="")

    def to_yaml(self, comments: bool = False) -> str:
        """YAML in the order of declaration, with each setting's meaning as a comment if asked."""
        lines = []
        for section_name, section in self:
            if comments:
                lines.append(f"# {section.__doc__}")
            lines.append(f"{section_name}:")
            for name, value in section.model_dump().items():
                if comments:
                    lines.append(f"  # {type(section).model_fields[name].description}")
                in_flow = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=float("inf"))
                lines.append(f"  {name}: {in_flow.strip()[1:-1]}")
            lines.append("")
        return "\n".join(lines)


def _with_current_names(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file with those renamed that had another name in earlier versions."""
    values = {name: dict(section) if isinstance(section, dict) else section for name, section in values.items()}
    for old, new in RENAMED.items():
        section, _, field = old.partition(".")
        held = values.get(section)
        if isinstance(held, dict) and field in held:
            held.setdefault(new.partition(".")[2], held.pop(field))
    return values


def problems(error: ValidationError) -> dict[str, str]:
    """What is wrong, by dotted setting name, each as a sentence for people."""
    return explain(error, RunConfig)


PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "minimal": (
        "The attention layers of the DETR decoder and the scoring only: trains fastest, forgets least.",
        {
            "lora.components": ["detr_decoder", "scoring"],
            "lora.modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "lora.rank": 8,
            "lora.alpha": 16.0,
        },
    ),
    "balanced": ("All parts that look at the image, attention and MLP layers: the default.", {}),
    "maximum": (
        "As balanced with double rank: for large or very unusual datasets; forgets most.",
        {"lora.rank": 32, "lora.alpha": 64.0},
    ),
}


def preset(name: str) -> RunConfig:
    """The default configuration with a preset's settings in it. Raises ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset '{name}'", f"Choose one of {', '.join(PRESETS)}")
    return RunConfig().with_settings(PRESETS[name][1])
