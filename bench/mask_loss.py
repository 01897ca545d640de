"""Memory and time of the mask loss terms, compared with computing all masks at once.

    python bench/mask_loss.py [--matches 100] [--size 1008] [--device cpu|cuda] [--threads 2]

Each method runs in its own process: forward and backward, from mask logits (4 phrases, 200 queries each, 2 / 7 of
`--size` as SAM 3 predicts them) and bool masks to the gradient of the logits. Extra memory is the peak of the process
beyond those inputs, that gradient included. On a CPU it is resident memory, read about every millisecond by a thread;
on a GPU it is torch.cuda.max_memory_allocated. Times are the minimum of `--repeats` passes; CPU time depends less on
other processes. Exits with 1 if ours needs more than a fifth of the extra memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PHRASES, QUERIES = 4, 200
WAYS = ("all at once", "ours")
MAX_MEMORY = 1 / 5
MIB = 2**20

Inputs = tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]


def make_inputs(matches: int, size: int, device: str) -> Inputs:
    """Mask logits (P, Q, h, w), masks (N, H, W) bool and, per match, its phrase, query and object."""
    torch.manual_seed(0)
    small = round(size * 2 / 7)
    mask_logits = torch.randn(PHRASES, QUERIES, small, small, device=device).mul_(3).requires_grad_()
    masks = torch.empty(matches, size, size, dtype=torch.bool, device=device)
    for mask in masks:  # one by one: making the inputs must not set the peak that is measured
        mask.copy_(F.interpolate(torch.randn(1, 1, 8, 8), (size, size), mode="bilinear")[0, 0] > 0)
    objects = torch.arange(matches, device=device)
    return mask_logits, masks, (objects % PHRASES, objects // PHRASES % QUERIES, objects)


def all_at_once(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The two terms as the papers write them, over all matches at once."""
    mask_logits, masks, (phrases, queries, objects) = inputs
    wanted = masks[objects].float().flatten(1)
    size_hw = masks.shape[-2:]
    logits = F.interpolate(mask_logits[phrases, queries].unsqueeze(1), size_hw, mode="bilinear").flatten(1)
    prob = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    prob_of_truth = prob * wanted + (1 - prob) * (1 - wanted)
    alpha = 0.25 * wanted + 0.75 * (1 - wanted)
    focal = (alpha * (1 - prob_of_truth) ** 2 * cross_entropy).mean(1)
    dice = 1 - (2 * (prob * wanted).sum(1) + 1) / (prob.sum(1) + wanted.sum(1) + 1)
    return focal.sum() / len(masks), dice.sum() / len(masks)


def ours(inputs: Inputs) -> tuple[Tensor, Tensor]:
    from sam3_lora.loss.terms import mask_terms
    from sam3_lora.structures import Targets

    mask_logits, masks, (phrases, queries, objects) = inputs
    targets = Targets(
        boxes=torch.zeros(len(masks), 4, device=masks.device),
        counts=torch.tensor([len(masks)], device=masks.device),
        masks=masks,
        mask_valid=torch.ones(len(masks), dtype=torch.bool, device=masks.device),
        exhaustive=torch.ones(1, dtype=torch.bool, device=masks.device),
    )
    num_objects = torch.tensor(float(len(masks)), device=masks.device)
    terms = mask_terms(mask_logits[phrases, queries], targets, objects, num_objects)
    return terms["loss_mask"], terms["loss_dice"]


class PeakMemory:
    """Peak memory in bytes within the block, beyond that at its start."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = self._now()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._watch)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.on_gpu:
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self._done.set()
            self._thread.join()
        self.extra = self.peak - self.start

    def _now(self) -> int:
        if self.on_gpu:
            return torch.cuda.memory_allocated()
        import psutil

        return psutil.Process().memory_info().rss

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.peak = max(self.peak, self._now())


def measure(way: str, matches: int, size: int, device: str, threads: int, repeats: int) -> dict[str, float]:
    """One method's peak memory in its first pass and its minimum times over all passes."""
    torch.set_num_threads(threads)
    compute: Callable[[Inputs], tuple[Tensor, Tensor]] = ours if way == "ours" else all_at_once
    # Imports and thread pools are not the loss's memory: a pass over very small inputs creates them.
    _forward_backward(compute, make_inputs(1, 14, device))
    inputs = make_inputs(matches, size, device)
    with PeakMemory(device) as memory:
        passes = [_forward_backward(compute, inputs)]
    passes += [_forward_backward(compute, inputs) for _ in range(repeats - 1)]
    wall, processor = (min(times) for times in zip(*passes, strict=True))
    with torch.no_grad():
        focal, dice = compute(inputs)
    gradient = inputs[0].grad
    assert gradient is not None
    values = {"mask": focal.item(), "dice": dice.item(), "norm": gradient.norm().item()}
    return {"bytes": memory.extra, "wall": wall, "processor": processor} | values


def _forward_backward(compute: Callable[[Inputs], tuple[Tensor, Tensor]], inputs: Inputs) -> tuple[float, float]:
    """Wall time and CPU time in seconds, over all threads."""
    inputs[0].grad = None
    start, processor_start = time.perf_counter(), time.process_time()
    focal, dice = compute(inputs)
    (200 * focal + 10 * dice).backward()
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - processor_start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matches", type=int, default=100)
    parser.add_argument("--size", type=int, default=1008)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = (options.matches, options.size, options.device, options.threads, options.repeats)
    if options.way:
        print(json.dumps(measure(options.way, *settings)))
        return 0

    print(f"{options.matches} matches at {options.size} x {options.size}, {options.device}, {options.threads} threads")
    print("               extra memory      wall  processor   loss_mask  loss_dice  gradient norm")
    results = {way: _in_own_process(way) for way in WAYS}
    for way, result in results.items():
        print(
            f"  {way:<12} {result['bytes'] / MIB:8.0f} MiB  {result['wall']:6.2f} s   {result['processor']:6.2f} s",
            end="",
        )
        print(f"    {result['mask']:.6f}   {result['dice']:.6f}       {result['norm']:.6f}")
    plain, mine = (results[way] for way in WAYS)
    memory, wall, processor = (mine[name] / plain[name] for name in ("bytes", "wall", "processor"))
    print(f"  ratio        {memory:8.3f}      {wall:6.2f}     {processor:6.2f}      (memory: at most {MAX_MEMORY})")
    return 0 if memory <= MAX_MEMORY else 1


def _in_own_process(way: str) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
    child = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(child.stdout)


if __name__ == "__main__":
    sys.exit(main())
