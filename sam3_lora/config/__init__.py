"""All settings of a run (settings.py), as YAML (yaml_text.py), and what is wrong with them (errors.py)."""

from sam3_lora.config.fields import Negatives
from sam3_lora.config.settings import (
    ASSETS,
    DEMO,
    HOLDOUT,
    TEXT_ENCODER_NOTE,
    AdapterConfig,
    Component,
    DataConfig,
    Flip,
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
