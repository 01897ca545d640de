"""Time of one training step of fit() over the bare forward + loss + backward on the same batches.

    python bench/step.py [--steps 40] [--batch-size 2]

Prints the ratio. Everything that fit() adds is in it: loading and resizing images, clipping, the
optimizer, metrics, status and checkpoints every 100 steps. The two are interleaved in time, run by
run, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sam3_lora.config import RunConfig  # noqa: E402
from sam3_lora.train.loop import fit  # noqa: E402
from sam3_lora.train.run import Run  # noqa: E402
from sam3_lora.train.setup import batches, make_accelerator, prepare  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=2)
    arguments = parser.parse_args()

    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig().with_settings(
            {
                "training.max_steps": arguments.steps,
                "training.epochs": 1000,
                "training.batch_size": arguments.batch_size,
                "data.valid_split": "",
                "output.runs": folder,
            }
        )
        for number in range(1, arguments.rounds + 1):
            bare = _bare_step(config)
            whole = _fit_step(config)
            ratios.append(whole / bare)
            print(f"round {number}: bare {bare * 1e3:.1f} ms, fit {whole * 1e3:.1f} ms, ratio {ratios[-1]:.3f}")
    print(f"fit() over bare forward + loss + backward, median of {len(ratios)} rounds: {statistics.median(ratios):.3f}")


def _bare_step(config: RunConfig) -> float:
    """Mean seconds of forward + loss + backward over the batches that fit() sees, loaded beforehand."""
    setup = prepare(config, make_accelerator(config.training), log=lambda line: None)
    setup.detector.train()
    wanted = config.training.max_steps
    loaded, epoch = [], 0
    while len(loaded) < wanted:
        loaded += [batch for group in batches(setup, epoch, skip=0) for batch in group]
        epoch += 1
    times = []
    for batch in loaded[:wanted]:
        start = time.perf_counter()
        inputs = (batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
        setup.loss(
            setup.detector(*(tensor.to(setup.accelerator.device) for tensor in inputs)), batch.targets
        ).total.backward()
        times.append(time.perf_counter() - start)
        for parameter in setup.parameters:
            parameter.grad = None
    return statistics.mean(times[1:])  # the first one warms up


def _fit_step(config: RunConfig) -> float:
    """Mean seconds between the rows that fit() writes, one per step."""
    run = Run.create(config)
    fit(run)
    rows = [row for row in run.metrics()[0] if row["kind"] == "step"]
    return (rows[-1]["time"] - rows[0]["time"]) / (len(rows) - 1)


if __name__ == "__main__":
    main()
