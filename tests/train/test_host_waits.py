"""How often a training step would make the host wait for a GPU; counted on the CPU."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from sam3_lora.config import Negatives
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.setup import Setup, prepare
from sam3_lora.train.step import take_step
from tests.train.host_waits import HostWaits

# One copy of the matcher's numbers for each forward pass, one of the metrics for each step.
OURS = {"loss/matching.py": 1, "train/step.py": 1}
# Seen as one, but it is on the host: the phrases whose masks the loss asks for.
ON_HOST = {"model/mask_head.py": 1}


@pytest.fixture(scope="module")
def setup(quick_config) -> Setup:
    config = quick_config.with_settings({"data.valid_split": "", "training.batch_size": 1})
    setup = prepare(config, make_accelerator(config.training), log=lambda line: None)
    setup.train_mode()
    return setup


def counted_step(setup: Setup, phrases_per_image: int, by_component: bool = False) -> HostWaits:
    setup.data.samples._negatives = Negatives(phrases_per_image)
    group = next(iter(setup.data.train_loader.epoch(0)))
    assert len(group) == 1
    batch, kept = group[0], group[0].targets
    setup.model.detector.encode_text(batch.input_ids, batch.attention_mask)  # by the host, and kept from then on
    with HostWaits([kept.counts, kept.mask_valid, batch.image_index, batch.input_ids, batch.attention_mask]) as counted:
        assert take_step(setup, group, by_component) is not None
    return counted


def places(counter: Counter[str]) -> dict[str, int]:
    """How often in each of this project's files; others together as one."""
    found: Counter[str] = Counter()
    for place, count in counter.items():
        path = place.split(": ", 1)[1].split(".py:")[0]
        found[path.rsplit("sam3_lora/")[-1] + ".py" if "sam3_lora/" in path else "libraries"] += count
    return dict(found)


@pytest.mark.parametrize("by_component", [False, True])
def test_a_step_waits_twice_whatever_the_number_of_phrases(setup, by_component):
    few, many = counted_step(setup, 1, by_component), counted_step(setup, 12, by_component)
    assert few.waits == many.waits
    assert {place: count for place, count in places(few.waits).items() if place != "libraries"} == OURS | ON_HOST
    # transformers looks in the geometry encoder whether there is any padding.
    assert places(few.waits)["libraries"] <= 1


def test_uploads_do_not_grow_with_the_phrases(setup):
    few, many = counted_step(setup, 1), counted_step(setup, 12)
    assert few.uploads == many.uploads
    ours = {place: count for place, count in places(few.uploads).items() if place != "libraries"}
    assert ours.pop("loss/wrapper.py") == 1  # ON_HOST
    assert ours == {"structures.py": 4}  # rows with objects, matches, each object's phrase, counts for the metrics


def test_the_counter_sees_what_waits():
    numbers = torch.tensor([0.5, 2.0])
    on_host = torch.tensor([1, 2])
    with HostWaits([on_host]) as counted:
        on_host.tolist()
        int(on_host[0])
        numbers.quantile(0.5)
    assert not counted.waits
    for wait in (
        lambda: numbers.tolist(),
        lambda: float(numbers[0]),
        lambda: bool((numbers > 1).any()),
        lambda: numbers[numbers > 1],
        lambda: numbers.nonzero(),
        lambda: numbers.cpu(),
        lambda: torch.repeat_interleave(numbers.long()),
    ):
        with HostWaits([on_host]) as counted:
            wait()
        assert sum(counted.waits.values()) == 1
