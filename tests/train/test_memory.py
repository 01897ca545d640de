"""Memory that is not used any more goes back to the system."""

from __future__ import annotations

import platform

import numpy as np
import psutil
import pytest

from sam3_lora.train.memory import free_unused

BLOCKS, SIZE = 4000, 60_000  # small enough that the C library keeps them when they are freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries return memory by themselves")
def test_what_is_freed_between_blocks_in_use_is_returned() -> None:
    process = psutil.Process()
    free_unused()
    before = process.memory_info().rss
    blocks = [np.ones(SIZE, np.uint8) for _ in range(BLOCKS)]
    kept = blocks[::100]
    del blocks
    assert process.memory_info().rss - before > BLOCKS * SIZE / 2, "freed, but not returned"
    free_unused()
    assert process.memory_info().rss - before < BLOCKS * SIZE / 4
    assert len(kept) == BLOCKS / 100
