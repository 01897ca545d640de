"""What a configuration will need of a GPU's memory and of the disk, and which settings would need less."""

from __future__ import annotations

import copy
from bisect import bisect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sam3_lora.config import RunConfig
from sam3_lora.config.fields import AUTO
from sam3_lora.model.image_size import image_size_of, image_size_step, with_image_size
from sam3_lora.model.memory_estimate import PRESENT_PHRASES, MemoryEstimate
from sam3_lora.train.memory import MAX_BATCH, smaller_settings
from sam3_lora.train.resolve import estimate_step, memory_ways, reads_vision_cache

if TYPE_CHECKING:
    from transformers import Sam3Config

GIB = 2**30
USABLE = 0.95  # of a card's memory; the rest is the driver's and the screen's
WORTH_BYTES = 0.05 * GIB  # a smaller saving is not worth a line


@dataclass(frozen=True)
class Saving:
    """A change of settings that would need less memory."""

    settings: dict[str, Any]  # dotted names
    bytes: int


@dataclass(frozen=True)
class MemoryOutlook:
    """A configuration on a card.

    Attributes:
        config: as the user has set it.
        architecture: of its base model, with the base's own image size.
        card_bytes: memory of the card.
        positives: phrases with objects that the heaviest training image has.
        objects: that it has.
    """

    config: RunConfig
    architecture: Sam3Config
    card_bytes: int
    positives: int = PRESENT_PHRASES
    objects: int = 5 * PRESENT_PHRASES

    @property
    def available(self) -> int:
        """Bytes of the card that a run can use."""
        return int(USABLE * self.card_bytes)

    @property
    def phrases_per_image(self) -> int:
        """Phrases that an image is asked for, with the negatives of the settings."""
        return self.positives + self.config.data.num_negatives

    @property
    def reads_cache(self) -> bool:
        """Whether the vision encoder's output is kept on disk."""
        return reads_vision_cache(self.config)

    @cached_property
    def resolved(self) -> RunConfig:
        """The settings with values for what is auto about memory, as a run on such a card chooses them."""
        config = self.config
        if config.training.precision == AUTO:
            config = config.with_settings({"training.precision": "bf16"})
        for recompute, images in memory_ways(config):
            chosen = config.with_settings({"model.gradient_checkpointing": recompute, "training.batch_size": images})
            if self.estimate_of(chosen).total <= self.available:
                return chosen
        return chosen

    @cached_property
    def estimate(self) -> MemoryEstimate:
        """The peak of a training step."""
        return self.estimate_of(self.resolved)

    @cached_property
    def largest_batch(self) -> int:
        """Images of the largest batch that fits, at most MAX_BATCH; 0 if not even one does."""

        def needed(images: int) -> int:
            return self.estimate_of(self.resolved.with_settings({"training.batch_size": images})).total

        return bisect(range(1, MAX_BATCH + 1), self.available, key=needed)

    @cached_property
    def savings(self) -> list[Saving]:
        """The changes that need less, each alone, the largest saving first."""
        now = self.estimate.total
        savings = [
            Saving(change, now - self.estimate_of(self.resolved.with_settings(change)).total)
            for change in self._changes()
        ]
        worth = [saving for saving in savings if saving.bytes >= WORTH_BYTES]
        return sorted(worth, key=lambda saving: -saving.bytes)

    def _changes(self) -> list[dict[str, Any]]:
        changes = smaller_settings(self.resolved)
        if self.resolved.training.precision == "fp32" and {"training.precision": "bf16"} not in changes:
            changes.append({"training.precision": "bf16"})
        step = image_size_step(self.architecture)
        smaller = (self.resolved.model.image_size or image_size_of(self.architecture)) - step
        if smaller > step:
            changes.append({"model.image_size": smaller})
        return changes

    def estimate_of(self, config: RunConfig) -> MemoryEstimate:
        """The peak of a training step with other settings, none of them auto."""
        architecture = with_image_size(copy.deepcopy(self.architecture), config.model.image_size)
        return estimate_step(config, architecture, self.positives, self.objects)

    def cache_bytes(self, train: int, valid: int = 0) -> int:
        """Disk for the vision encoder's output: each way of flipping a training image is another file.

        Args:
            train: images that are trained on.
            valid: images that are validated on, which are not flipped.
        """
        vision: Any = self.architecture.vision_config
        backbone = vision.backbone_config
        size = self.resolved.model.image_size or image_size_of(self.architecture)
        number = 4 if self.resolved.training.precision == "fp32" else 2
        variants = {"none": 1, "horizontal": 2, "both": 4}[self.config.augmentation.flip]
        return (train * variants + valid) * (size // backbone.patch_size) ** 2 * backbone.hidden_size * number
