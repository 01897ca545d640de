"""Every setting of a run, declared once: type, default, bounds, and its meaning in the docstring beneath it.

The form in the app, the commented YAML and the command line's help all read them from here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from sam3_lora.config.augmentation import AugmentationConfig
from sam3_lora.config.errors import all_in_one, did_you_mean, explain
from sam3_lora.config.fields import (
    AUTO,
    AUTO_BATCH,
    MAX_TILE_OVERLAP,
    MIN_TILE_OVERLAP,
    TILE_OVERLAP,
    Auto,
    BatchSize,
    Negatives,
    PhraseText,
    RunName,
    Section,
    TileSize,
    WorkerCount,
)
from sam3_lora.config.yaml_text import RENAMED, dump, read_yaml, renamed_note, renamed_settings, with_current_names
from sam3_lora.errors import ConfigError
from sam3_lora.files import user_path
from sam3_lora.text import short

DEMO = "demo"  # names the model and the dataset that ship with the app
HOLDOUT = "holdout"  # as data.valid_split: a share of the training images
ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"

_log = logging.getLogger(__name__)


Component = Literal[
    "vision_encoder",
    "text_encoder",
    "geometry_encoder",
    "detr_encoder",
    "detr_decoder",
    "presence_head",
    "mask_decoder",
    "scoring",
]
Precision = Literal["fp32", "bf16", "fp16"]
BestBy = Literal["cgf1", "f1", "loss"]  # what an adapter can be the best by
ModuleKind = Literal["q_proj", "k_proj", "v_proj", "o_proj", "mlp"]

# Shown where the text encoder is chosen all the same.
TEXT_ENCODER_NOTE = "A few hundred images hold too few phrases to adapt the text encoder: SAM 3 forgets other words."


class DataConfig(Section):
    """Training data: the dataset, its splits, and phrases."""

    path: str = Field(DEMO, min_length=1, title="Dataset")
    """Dataset folder (COCO, YOLO or one JSON per image), or 'demo' for the one that ships with the app."""
    image_dir: str = Field("", title="Image folder")
    """Another folder to search for the images; empty if they are next to the annotations."""
    default_phrase: str = Field("", max_length=200)
    """Phrase for all objects if the annotations have no categories; empty for the folder's name."""
    edits: str = Field("", max_length=3_000)
    """File of edits (edits.yaml, see 'sam3-lora repair') to apply when the dataset is opened, whose own files stay as
    they are. A run keeps a copy of it. Empty for none."""
    tiles: TileSize | Auto = Field(0, title="Tile size")
    """Side in pixels of the tiles that larger images are cut into, for training and, with the adapter, afterwards:
    small objects stay visible, and fewer are in each. 0 for whole images; auto: by the training objects' sizes and
    numbers, whole images where they are fine. Of the tiles without objects a quarter of all is kept."""
    tile_overlap: float = Field(TILE_OVERLAP, ge=MIN_TILE_OVERLAP, le=MAX_TILE_OVERLAP, title="Overlap of tiles")
    """Share of a tile's side by which neighboring tiles overlap, at least. An object that is no larger than the overlap
    is whole in one of them."""
    train_split: str = Field("train", min_length=1)
    """Split to train on."""
    valid_split: str = Field("valid", title="Validation split")
    """Split to validate on after each epoch. 'valid' is also found as val, validation or dev; if there is none, a share
    of the training images is held out. 'holdout' always holds it out; empty for no validation."""
    holdout: float = Field(0.1, ge=0, lt=1, title="Held-out share")
    """Share of the training images to hold out for validation where no split is used for it, at least one image."""
    crowds_as_objects: bool = Field(False, title="Learn crowd regions as objects")
    """Learn annotations with iscrowd or ignore 1, which otherwise are shown but not learned: some tools mark
    every brush mask so."""
    num_negatives: int = Field(3, ge=0, le=32, title="Negative phrases per image")
    """Phrases per image that match no object there. Without any, the adapter detects something for every phrase."""
    min_foreign: int = Field(1, ge=0, le=32, title="Foreign words among the negatives")
    """At least so many of the negative phrases are everyday words that have nothing to do with the dataset."""
    refused_phrases: list[PhraseText] = Field([], max_length=1_000, title="Phrases to refuse")
    """Further foreign words: phrases for which the adapter is to detect nothing."""
    category_phrases: dict[str, PhraseText] = Field({}, title="Phrase per category")
    """Phrase to use for a category, by category name, up to 200 characters; other categories use their name."""
    num_workers: WorkerCount | Auto = Field(AUTO, title="Data loading workers")
    """Processes that load images; 0 loads them in the training process. auto: by the number of cores where a
    GPU trains, else 0."""
    vision_cache_gb: float = Field(20, ge=0, le=100_000, title="Vision cache (GB)")
    """Disk space outside the dataset for what the vision encoder makes of each image, where it is not adapted: it then
    runs once per image instead of in every step, unless augmentation changes more than flips. Of all runs together;
    0 switches the cache off."""

    @property
    def negatives(self) -> Negatives:
        """The negative phrases of each image."""
        return Negatives(self.num_negatives, self.min_foreign, tuple(self.refused_phrases))

    @property
    def reading(self) -> dict[str, Any]:
        """How the dataset is opened: the arguments of :func:`sam3_lora.data.dataset.open_dataset`."""
        options = {"images": self.image_dir, "phrase": self.default_phrase}
        return {"path": self.path, **options, "crowds_as_objects": self.crowds_as_objects, "edits": self.edits}


class ModelConfig(Section):
    """The base model, the adapter to start from, and what saves memory."""

    base: str = Field(DEMO, min_length=1, title="Base model")
    """'demo', a Hugging Face Hub id such as facebook/sam3, a folder saved by transformers, or Meta's sam3.pt."""
    processor: str = Field("", title="Tokenizer and image processor")
    """Folder or Hugging Face Hub id of the processor with its tokenizer; empty for the base model's own. Meta's sam3.pt
    has none."""
    image_size: int | None = Field(None, ge=1, le=8_192, title="Image size")
    """Side in pixels of the square that images are resized to, a multiple that fits the base model (336 for SAM 3);
    empty for the base's own (1008). Smaller is faster and takes less memory, but small objects get lost."""
    adapter: str = Field("", title="Adapter to start from")
    """Adapter folder to continue from, such as runs/RUN/adapters/best, trained with the same lora settings; empty to
    start from the base model."""
    gradient_checkpointing: bool | Auto = AUTO
    """Recompute the activations of each layer in the backward pass: less memory, about a third more time. auto: where
    a step on the GPU would not fit without it."""
    compile: bool = Field(False, title="Compile the vision encoder")
    """Compile its layers with torch.compile: minutes at the start, and faster steps after. Needs a compiler."""

    @property
    def loading(self) -> dict[str, Any]:
        """How the base is loaded: the arguments of :func:`sam3_lora.model.base.load_base`, but for the device."""
        return {"name_or_path": self.base, "processor": self.processor, "image_size": self.image_size}

    @property
    def adapter_name(self) -> str:
        """The last three parts of the adapter's path, "run/adapters/best"; "" without an adapter."""
        return "/".join(Path(self.adapter).parts[-3:])


class AdapterConfig(Section):
    """LoRA: which layers to adapt, and at what rank."""

    components: list[Component] = Field(
        ["vision_encoder", "geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "scoring"],
        min_length=1,
        title="Components to adapt",
        description=f"Parts of SAM 3 to adapt.\n{TEXT_ENCODER_NOTE}",
    )
    modules: list[ModuleKind] = Field(["q_proj", "k_proj", "v_proj", "o_proj", "mlp"], min_length=1)
    """Linear layers to adapt in these components; with 'mlp' fewer epochs are enough."""
    rank: int = Field(16, ge=1, le=512)
    """Rank of each low-rank update. A higher rank fits more, uses more memory and erodes more other knowledge."""
    alpha: float = Field(32.0, gt=0, le=4096)
    """Scale of the update: it is multiplied by alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout probability on the inputs of the LoRA layers."""
    rslora: bool = Field(False, title="rsLoRA")
    """Rank-stabilized LoRA: scale by alpha / sqrt(rank), which keeps high ranks learning."""
    dora: bool = Field(False, title="DoRA")
    """Weight-decomposed LoRA: learn magnitude and direction separately. Often better at low rank, but slower."""

    @field_validator("components", "modules")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))


class LossConfig(Section):
    """Weights of the loss terms. The defaults are SAM 3's own; change them only for a reason."""

    loss_bbox: float = Field(5.0, ge=0, le=10_000)
    """Weight of the L1 distance between boxes."""
    loss_giou: float = Field(2.0, ge=0, le=10_000)
    """Weight of 1 - GIoU between boxes."""
    loss_ce: float = Field(20.0, ge=0, le=10_000)
    """Weight of the classification of queries."""
    presence_loss: float = Field(20.0, ge=0, le=10_000)
    """Weight of the presence loss: whether the image contains the phrase at all."""
    loss_mask: float = Field(200.0, ge=0, le=10_000)
    """Weight of the focal loss over mask pixels."""
    loss_dice: float = Field(10.0, ge=0, le=10_000)
    """Weight of the dice loss over masks."""
    o2m_weight: float = Field(2.0, ge=0, le=100)
    """Factor on every term of the one-to-many queries."""
    pos_weight: float = Field(10.0, gt=0, le=1_000)
    """Factor on matched queries in loss_ce."""
    normalization: Literal["local", "global"] = "local"
    """Divide by the number of objects in this process's batch ('local'), or by its mean over processes ('global')."""


class ReplayConfig(Section):
    """Replay: the adapter is held to the base model's predictions for other phrases, so that it forgets less."""

    source: Literal["none", "own", "folder"] = Field("own", title="Images to replay")
    """Images that other phrases are asked of: 'none' for no replay, 'own' the training images, 'folder' unlabelled
    photographs such as the adapter will meet besides."""
    folder: str = Field("", max_length=1_000, title="Folder of photographs")
    """Folder of the photographs for 'folder'; annotations are not needed."""
    images_per_step: int = Field(1, ge=1, le=64, title="Replayed images per step")
    """Images that each step replays, in a pass of their own."""
    phrases_per_image: int = Field(8, ge=1, le=64, title="Replayed phrases per image")
    """Half of them are phrases for which the base detects something in the image, as far as there are any."""
    weight: float = Field(2.0, gt=0, le=1_000, title="Weight of replay")
    """Factor on the loss of replayed phrases. A higher weight keeps more knowledge, and learns more slowly."""
    phrases: list[PhraseText] = Field([], max_length=1_000, title="Phrases to preserve")
    """Phrases besides those of the dataset that matter to you: they are replayed more often than others."""


class TrainingConfig(Section):
    """Length of the training, optimizer, precision and checkpoints."""

    epochs: int = Field(20, ge=1, le=10_000)
    """Passes over the training images. More epochs fit your data better, but erode other knowledge."""
    max_steps: int | None = Field(None, ge=1, le=10_000_000)
    """Stop after this many steps, whatever the number of epochs; empty for no limit."""
    batch_size: BatchSize | Auto = AUTO
    """Images per forward pass and device. auto: 2, or 1 with twice the accumulation steps where 2 do not fit on the
    GPU, so that a step learns from as many images."""
    gradient_accumulation_steps: int = Field(1, ge=1, le=256)
    """Forward passes per step: the effective batch size is batch_size x this x devices."""
    learning_rate: float = Field(5e-4, gt=0, le=1)
    """Peak learning rate of AdamW. A higher rate learns faster, and erodes the base model's knowledge faster."""
    vision_lr_factor: float = Field(1.0, gt=0, le=10, title="Vision learning-rate factor")
    """The vision encoder learns at learning_rate times this."""
    layer_decay: float = Field(1.0, gt=0, le=1, title="Learning-rate decay by layer")
    """Each layer of the vision encoder learns at this times the rate of the layer after it; 1 for the same rate."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Weight decay of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", title="Learning-rate schedule")
    """How the learning rate decays after the warm-up."""
    warmup_steps: int = Field(20, ge=0, le=100_000, title="Warm-up steps")
    """Steps in which the learning rate rises from zero to its peak."""
    max_grad_norm: float = Field(1.0, gt=0, le=1_000_000, title="Max. gradient norm")
    """Gradients with a larger norm are clipped to it."""
    precision: Literal[Auto, Precision] = AUTO
    """Numeric precision. auto: bf16 on a GPU that computes in it, otherwise fp32. In fp32 a GPU multiplies matrices
    in TF32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on; auto uses a GPU if there is one."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the image order, the negative phrases and the initial adapter weights."""
    checkpoint_every: int = Field(100, ge=0, le=1_000_000, title="Steps between checkpoints")
    """Steps between checkpoints to resume from, besides those after each epoch and on stop; 0 for no others."""
    keep_checkpoints: int = Field(2, ge=1, le=1_000, title="Checkpoints to keep")
    """Number of newest checkpoints to keep; older ones are deleted."""
    select_best_by: Literal[Auto, BestBy] = Field(AUTO, title="Best adapter by")
    """What makes an adapter the best: cgF1 or F1 of masks as Evaluate measures them, or the loss, on the validation
    images. auto: cgf1 where there are negatives, otherwise f1, and without objects to validate on the loss."""
    patience: int = Field(0, ge=0, le=10_000, title="Early-stopping patience")
    """Stop after this many epochs without a new best adapter (select_best_by); 0 disables early stopping."""

    @property
    def images_per_step(self) -> int:
        """Images of a step on each device, the same before and after auto is resolved."""
        batch_size = AUTO_BATCH if self.batch_size == AUTO else self.batch_size
        return batch_size * self.gradient_accumulation_steps


class OutputConfig(Section):
    """The run's folder and name, and the sample predictions it saves."""

    runs: str = Field("runs", min_length=1, max_length=1_000, title="Runs folder")
    """Folder that contains the runs."""
    name: RunName = Field("run", title="Run name")
    """Name of the run: letters a to z, digits, spaces, dots and dashes."""
    sample_images: list[str] = Field([])
    """File names of validation images to predict at each validation, as sample predictions; empty for the first four
    with objects."""

    @property
    def runs_folder(self) -> Path:
        """The folder that contains the runs, with ~ expanded."""
        return user_path(self.runs)


class RunConfig(Section):
    """All settings of a run."""

    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig = ModelConfig()
    lora: AdapterConfig = AdapterConfig()
    loss: LossConfig = LossConfig()
    replay: ReplayConfig = ReplayConfig()
    training: TrainingConfig = TrainingConfig()
    output: OutputConfig = OutputConfig()

    @classmethod
    def load(cls, path: str | Path) -> RunConfig:
        """Reads a YAML file. Raises ConfigError if it is missing, unreadable or invalid."""
        return cls.from_dict(read_yaml(path), Path(path).name)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the configuration") -> RunConfig:
        """Validates a nested mapping of settings; names of earlier versions are accepted, with one note in the log.

        Args:
            values: section -> setting -> value.
            source: where the settings come from, for the error message; "" if that is clear.

        Raises:
            ConfigError: unknown settings, or values of the wrong type or out of bounds; it names the first few.
        """
        _log_renamed(renamed_settings(values))
        try:
            return cls.model_validate(with_current_names(values))
        except ValidationError as error:
            found = list(problems(error).values())
            raise ConfigError(
                (f"In {source}: " if source else "") + all_in_one(found),
                "Correct this setting" if len(found) == 1 else "Correct these settings",
            ) from None

    def with_settings(self, settings: dict[str, Any]) -> RunConfig:
        """A copy with dotted settings replaced, for example {"training.epochs": 2}. Raises ConfigError."""
        values = self.model_dump()
        _log_renamed({name: RENAMED[name] for name in settings if name in RENAMED})
        for name, value in settings.items():
            section, _, field = RENAMED.get(name, name).partition(".")
            if section not in values or field not in values[section]:
                raise ConfigError(
                    f"There is no setting '{short(name)}'{did_you_mean(name, RunConfig)}",
                    "See 'python -m sam3_lora config' for all settings",
                )
            values[section][field] = value
        return RunConfig.from_dict(values, source="")

    def to_yaml(self, comments: bool = False, notes: Mapping[str, str] | None = None) -> str:
        """YAML in the order of declaration.

        Args:
            comments: with each setting's description above it.
            notes: dotted setting -> further lines of comment.
        """
        lines = []
        for section_name, section in self:
            lines += [f"# {section.__doc__}"] if comments else []
            lines.append(f"{section_name}:")
            for name, value in section.model_dump().items():
                description = type(section).model_fields[name].description or ""
                lines += [f"  # {line}" for line in description.splitlines()] if comments else []
                lines += [f"  # {line}" for line in (notes or {}).get(f"{section_name}.{name}", "").splitlines()]
                lines.append(f"  {name}: {dump(value)}")
            lines.append("")
        return "\n".join(lines)


_noted: set[str] = set()  # old names that the log has a note of


def _log_renamed(renamed: dict[str, str]) -> None:
    """Logs, once per process, which settings were given by a name of an earlier version."""
    new = {old: name for old, name in renamed.items() if old not in _noted}
    _noted.update(new)
    if new:
        _log.warning(renamed_note(new))


def problems(error: ValidationError) -> dict[str, str]:
    """What is wrong, by dotted setting name, each as a sentence."""
    return explain(error, RunConfig)
