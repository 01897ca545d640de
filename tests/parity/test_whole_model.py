"""Meta's whole image model, saved as Meta saves it, gives the same when it is loaded here.

The reference's own builder makes it, with random weights: vision and text encoder, neck and heads at full width. By
default with few layers and small images; slow tests take all layers, small images and those of 1008 pixels.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from sam3_lora.config import AdapterConfig
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.model.base_files import meta_file
from sam3_lora.model.base_files.meta_names import TABLE, ignored_as, to_meta, to_ours
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.merge import merge_into_folder
from tests.parity import reference_model as reference
from tests.parity import whole_model
from tests.parity.whole_model import DEEP, FULL, QUICK, Answer, Asked, Size

TOLERANCE = 1e-4  # of the range of an output's values; measured: docs/benchmarks.md


@dataclass(frozen=True)
class Case:
    """The reference's model in its file, and what it answers."""

    size: Size
    checkpoint: Path
    asked: Asked
    expected: Answer


def make_case(size: Size, folder: Path) -> Case:
    model = whole_model.build(size)
    asked = whole_model.make_asked(size)
    expected = whole_model.ask_reference(model, asked)
    whole_model.save_processor(size, folder)
    if size != FULL:
        (folder / "config.json").write_text(json.dumps(size.config()))
    return Case(size, whole_model.save_checkpoint(model, folder), asked, expected)


def load(case: Case) -> Sam3Detector:
    return Sam3Detector(load_base(case.checkpoint, image_size=case.size.image_size).model).eval()


def assert_equal(actual: Answer, expected: Answer) -> None:
    found = whole_model.differences(actual, expected)
    print({name: f"{value:.1e}" for name, value in found.items()})
    assert {name: value for name, value in found.items() if not value <= TOLERANCE} == {}


@pytest.fixture(scope="module")
def quick() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        yield make_case(QUICK, Path(folder))


def test_features_text_detections_and_masks(quick: Case) -> None:
    detections = quick.expected.detections
    assert detections.masks is not None
    assert detections.logits.std() > 1e-3, "answers that hardly vary would prove nothing"
    assert detections.masks.std() > 1e-2
    assert_equal(whole_model.ask_ours(load(quick), quick.asked), quick.expected)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_layers_on_small_images(tmp_path: Path) -> None:
    case = make_case(DEEP, tmp_path)
    assert_equal(whole_model.ask_ours(load(case), case.asked), case.expected)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_as_published_on_images_of_1008_pixels(tmp_path: Path) -> None:
    """Without a config.json: the architecture is SAM 3's own."""
    case = make_case(FULL, tmp_path)
    assert_equal(whole_model.ask_ours(load(case), case.asked), case.expected)


def loaded_by_the_reference(size: Size, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> nn.Module:
    """With its own loader, which only prints what is missing."""
    model = whole_model.build(size, seed=1)
    capsys.readouterr()
    reference.builder._load_checkpoint(model, str(checkpoint))
    assert capsys.readouterr().out == ""
    return model


@pytest.mark.parametrize("of", ["checkpoint", "folder"])
def test_the_reference_loads_what_merge_writes(quick: Case, of: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(meta_file, "_IMAGE_SIZE", QUICK.image_size)
    base = load_base(quick.checkpoint, image_size=QUICK.image_size)
    place = str(quick.checkpoint)
    if of == "folder":
        place = str(tmp_path / "base")
        base.model.save_pretrained(place)
        base.processor.save_pretrained(place)
    adapted = lora.attach(
        base.model, AdapterConfig(components=["vision_encoder", "text_encoder", "mask_decoder"], rank=2)
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    lora.save(adapted, tmp_path / "adapter", place)
    expected = whole_model.ask_ours(Sam3Detector(base.model).eval(), quick.asked)
    assert whole_model.differences(expected, quick.expected)["masks"] > 100 * TOLERANCE, "the adapter must matter"

    folder = merge_into_folder(place, tmp_path / "adapter", tmp_path / "merged", layout="meta")
    written = meta_file.read(folder / "sam3.pt")
    original = meta_file.read(quick.checkpoint)
    tracker = {name for name in original if name.startswith("tracker.")}
    assert tracker
    assert set(written) == (set(original) if of == "checkpoint" else set(original) - tracker)
    assert all(torch.equal(written[name], original[name]) for name in tracker & set(written))
    theirs = loaded_by_the_reference(QUICK, folder / "sam3.pt", capsys)
    assert_equal(whole_model.ask_reference(theirs, quick.asked), expected)
    again = load_base(folder)
    assert again.image_size == QUICK.image_size
    assert_equal(whole_model.ask_ours(Sam3Detector(again.model).eval(), quick.asked), expected)


def test_the_rotary_tables_are_the_references_own(quick: Case, monkeypatch) -> None:
    monkeypatch.setattr(meta_file, "_IMAGE_SIZE", QUICK.image_size)
    tables = meta_file._rotary_tables(load(quick).base.config)
    original = meta_file.read(quick.checkpoint)
    assert set(tables) == {name for name in original if name.endswith("freqs_cis")}
    for name, table in tables.items():
        torch.testing.assert_close(table, original[name], rtol=0, atol=1e-5)


def test_every_weight_of_the_published_model_has_a_place() -> None:
    """sam3.pt is loaded strictly by the reference's video model, so that its names are those of this model."""
    from accelerate import init_empty_weights

    with reference.on_cpu(), init_empty_weights(include_buffers=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference.builder, "SimpleTokenizer", lambda bpe_path: None)
        video = reference.builder.build_sam3_video_model(bpe_path="", load_from_HF=False, device="meta")
    state = video.state_dict()
    found = {
        name: weight
        for meta, tensor in state.items()
        if ignored_as(meta) is None
        for name, weight in to_ours(meta, tensor)
    }
    expected = whole_model.published_shapes()
    assert {name: weight.shape for name, weight in found.items()} == expected
    kept = {name for name in state if ignored_as(name) is None}
    back = to_meta(found)
    assert set(back) == kept
    assert {name: weight.shape for name, weight in back.items()} == {name: state[name].shape for name in kept}


def test_no_row_of_the_table_is_there_twice() -> None:
    assert len({meta for meta, _ in TABLE}) == len({ours for _, ours in TABLE}) == len(TABLE)
