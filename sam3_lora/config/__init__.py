"""All settings of a run (settings.py, augmentation.py), as YAML (yaml_text.py), and what is wrong (errors.py)."""

from sam3_lora.config.augmentation import AugmentationConfig, Flip
from sam3_lora.config.fields import Negatives
from sam3_lora.config.settings import (
    ASSETS,
    DEMO,
    HOLDOUT,
    TEXT_ENCODER_NOTE,
    AdapterConfig,
    BestBy,
    Component,
    DataConfig,
    LossConfig,
    ModelConfig,
    ModuleKind,
    OutputConfig,
    Precision,
    ReplayConfig,
    RunConfig,
    TrainingConfig,
    problems,
)

__all__ = [
    "ASSETS",
    "DEMO",
    "HOLDOUT",
    "TEXT_ENCODER_NOTE",
    "AdapterConfig",
    "AugmentationConfig",
    "BestBy",
    "Component",
    "DataConfig",
    "Flip",
    "LossConfig",
    "ModelConfig",
    "ModuleKind",
    "Negatives",
    "OutputConfig",
    "Precision",
    "ReplayConfig",
    "RunConfig",
    "TrainingConfig",
    "problems",
]
