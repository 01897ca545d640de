"""Peak GPU memory of a training step, estimated before any weight is loaded."""

from sam3_lora.model.memory_estimate.estimate import (
    MAX_BATCH,
    OVERHEAD,
    PRESENT_PHRASES,
    MemoryEstimate,
    estimate_memory,
    largest_batch,
)

__all__ = ["MAX_BATCH", "OVERHEAD", "PRESENT_PHRASES", "MemoryEstimate", "estimate_memory", "largest_batch"]
