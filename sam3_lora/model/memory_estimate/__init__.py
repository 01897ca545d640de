"""Peak GPU memory of a training step, estimated before any weight is loaded."""

from sam3_lora.model.memory_estimate.estimate import OVERHEAD, PRESENT_PHRASES, MemoryEstimate, estimate_memory

__all__ = ["OVERHEAD", "PRESENT_PHRASES", "MemoryEstimate", "estimate_memory"]
