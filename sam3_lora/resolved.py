"""A run's settings without "auto", as training reads them; sam3_lora/train/resolve.py makes them."""

from __future__ import annotations

from sam3_lora.config import BestBy, DataConfig, ModelConfig, Precision, RunConfig, TrainingConfig
from sam3_lora.config.fields import BatchSize, TileSize, WorkerCount


class ResolvedData(DataConfig):
    """Training data with a number of workers and a size of tiles."""

    tiles: TileSize
    num_workers: WorkerCount


class ResolvedModel(ModelConfig):
    """The base model, and whether activations are recomputed."""

    gradient_checkpointing: bool


class ResolvedTraining(TrainingConfig):
    """Training with a batch size, a precision and a number that tells the best adapter."""

    batch_size: BatchSize
    precision: Precision
    select_best_by: BestBy


class ResolvedConfig(RunConfig):
    """All settings of a run, none of them auto."""

    data: ResolvedData
    model: ResolvedModel
    training: ResolvedTraining
