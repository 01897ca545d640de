"""Meta's checkpoints: where they are found, what makes them unusable, and that nothing in them is executed."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from torch import Tensor

from sam3_lora.errors import ModelError
from sam3_lora.model.base import LoadedModel, load_base, load_config, load_processor
from sam3_lora.model.base_files import meta_file
from sam3_lora.model.base_files.meta_names import ignored_as, to_meta
from sam3_lora.model.detector import Sam3Detector
from tests.model.conftest import DEMO_FOLDER
from tests.model.model_helpers import tensors

State = dict[str, Tensor]
NECK = "detector.backbone.vision_backbone"
QUERIES = "detector.transformer.decoder.query_embed.weight"


@pytest.fixture(scope="module")
def state() -> State:
    """The demo's weights as Meta would name them, with what the detector has no use for."""
    ours = load_base("demo").model.state_dict()
    ignored = {
        "tracker.maskmem_backbone.out_proj.weight": torch.ones(2, 2),
        f"{NECK}.sam2_convs.0.conv_1x1.bias": torch.ones(2),
        f"{NECK}.trunk.blocks.0.attn.freqs_cis": torch.ones(2, dtype=torch.complex64),
        "detector.geometry_encoder.points_pool_project.bias": torch.ones(2),
    }
    return to_meta(ours) | ignored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo's files without its weights: the architecture and the processor of its checkpoint."""
    shutil.copytree(DEMO_FOLDER, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "model"


def same_weights(loaded: LoadedModel, demo: LoadedModel) -> bool:
    expected = demo.model.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("kept", [lambda state: state, lambda state: {"model": state}], ids=["weights", "model"])
def test_a_checkpoint_as_a_file_and_as_a_folder(folder: Path, state: State, demo: LoadedModel, kept: Callable) -> None:
    torch.save(kept(state), folder / "sam3.pt")
    for place in (folder, folder / "sam3.pt"):
        loaded = load_base(place)
        assert same_weights(loaded, demo)
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert loaded.image_size == load_config(place).image_size == 168
    assert load_base(folder / "sam3.pt", image_size=84).image_size == 84


def test_its_detections_are_those_of_the_same_weights(folder: Path, state: State, demo: LoadedModel, inputs) -> None:
    torch.save(
        {name: value.to(torch.bfloat16) if name.endswith("qkv.bias") else value for name, value in state.items()},
        folder / "sam3.pt",
    )
    with torch.inference_mode():
        expected, found = (
            tensors(Sam3Detector(one.model).eval()(*inputs)) for one in (demo, load_base(folder / "sam3.pt"))
        )
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-2)


def test_sam_3_1_has_a_level_less_and_more_necks(folder: Path, state: State, demo: LoadedModel, inputs) -> None:
    """The level that is missing is computed with zeros and dropped: detections do not depend on it."""
    less = {name: value for name, value in state.items() if not name.startswith((f"{NECK}.convs.3", f"{NECK}.sam2"))}
    assert len(less) == len(state) - 5
    more = {f"{NECK}.{kind}_convs.0.conv_1x1.bias": torch.ones(2) for kind in ("interactive", "propagation")}
    torch.save(less | more, folder / "sam3.1_multiplex.pt")
    loaded = load_base(folder)
    zeros = [name for name, value in loaded.model.state_dict().items() if not value.any() and "fpn_layers.3" in name]
    assert len(zeros) == 4
    torch.save(state, folder / "sam3.pt")
    (folder / "sam3.1_multiplex.pt").rename(folder.parent / "sam3.1_multiplex.pt")
    whole = load_base(folder)
    with torch.inference_mode():
        expected, found = (tensors(Sam3Detector(one.model).eval()(*inputs)) for one in (whole, loaded))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_is_ignored_has_a_name(state: State) -> None:
    assert ignored_as("tracker.anything") == "the tracker"
    assert ignored_as(f"{NECK}.propagation_convs.0.conv_1x1.bias") == "SAM 3.1's necks of point prompts and tracking"
    for name in ("detector.tracker.x", f"{NECK}.convs.0.conv_1x1.bias", "detector.geometry_encoder.points_new.weight"):
        assert ignored_as(name) is None


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["torch.save", "weights beside it", "plain pickle"])
def test_nothing_in_a_checkpoint_is_executed(folder: Path, state: State, how: str) -> None:
    mark, file = folder / "executed", folder / "sam3.pt"
    if how == "plain pickle":
        file.write_bytes(pickle.dumps({"model": Payload(mark)}))
    else:
        torch.save({"model": Payload(mark)} if how == "torch.save" else state | {"x": Payload(mark)}, file)
    refused(file, "not loaded|no file that PyTorch saved")
    assert not mark.exists()
    if how != "plain pickle":
        torch.load(file, weights_only=False)
        assert mark.exists(), "the payload must work for this test to mean anything"


def refused(place: Path, message: str) -> ModelError:
    with pytest.raises(ModelError, match=message) as caught:
        load_base(place)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return caught.value


def halved(state: State) -> State:
    return dict(list(state.items())[::2])


BAD: dict[str, tuple[Callable[[State], object], str]] = {
    "the tracker alone": (
        lambda state: {name: value for name, value in state.items() if name.startswith("tracker.")},
        "holds only SAM 3's tracker",
    ),
    "another model": (lambda state: {"image_encoder.pos_embed": torch.ones(2)}, "another model \\(image_encoder.pos"),
    "half of the weights": (halved, "weights are missing in .*they would be random"),
    "one weight missing": (
        lambda state: {name: value for name, value in state.items() if not name.endswith("query_embed.weight")},
        "1 of SAM 3's weights are missing .*detr_decoder.query_embed.weight",
    ),
    "one weight more": (
        lambda state: state | {"detector.transformer.decoder.instance_query_embed.weight": torch.ones(2)},
        "1 weight that SAM 3 does not have .*instance_query_embed",
    ),
    "more layers": (
        lambda state: state | {f"{NECK}.trunk.blocks.99.norm1.bias": torch.ones(2)},
        "1 weight that SAM 3 does not have .*layers.99.layer_norm1.bias",
    ),
    "another shape": (
        lambda state: state | {"detector.transformer.decoder.query_embed.weight": torch.ones(3, 3)},
        "1 weight in .* another shape .*detr_decoder.query_embed.weight",
    ),
    "a number in place of a matrix": (
        lambda state: state | {f"{NECK}.trunk.blocks.0.attn.qkv.weight": torch.tensor(1.0)},
        "weights are missing in .*layers.0.attention.q_proj.weight",
    ),
    "integers": (
        lambda state: {name: value.to(torch.int8) if name == QUERIES else value for name, value in state.items()},
        "1 weight of it .detr_decoder.query_embed.weight. came as integers",
    ),
    "sparse": (
        lambda state: {name: value.to_sparse() if name == QUERIES else value for name, value in state.items()},
        "1 weight of it .detr_decoder.query_embed.weight. came as integers",
    ),
    "without numbers": (
        lambda state: {name: value.to("meta") if name == QUERIES else value for name, value in state.items()},
        "1 weight of it .detr_decoder.query_embed.weight. came as integers",
    ),
    "a list": (lambda state: list(state.values()), "holds something else"),
    "numbers": (lambda state: {"detector.x": 3}, "holds something else"),
    "empty": (lambda state: {}, "another model"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_checkpoint_of_something_else_is_refused(folder: Path, state: State, name: str) -> None:
    make, message = BAD[name]
    torch.save(make(state), folder / "sam3.pt")
    refused(folder / "sam3.pt", message)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_checkpoint_that_is_cut_off_is_refused(folder: Path, state: State, share: float) -> None:
    torch.save(state, folder / "sam3.pt")
    content = (folder / "sam3.pt").read_bytes()
    (folder / "sam3.pt").write_bytes(content[: int(len(content) * share)])
    refused(folder / "sam3.pt", "cut off, or no file that PyTorch saved")


@pytest.mark.parametrize("name", ["sam3.pt", "sam3.pth", "SAM3.PT"])
def test_a_folder_is_searched_for_what_is_taken_as_a_file(folder: Path, state: State, name: str, demo) -> None:
    """Also beside an adapter's weights, which are no base model's."""
    torch.save(state, folder / name)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert same_weights(load_base(folder), demo)
    assert same_weights(load_base(folder / name), demo)


def test_what_is_no_checkpoint_is_refused(folder: Path) -> None:
    (folder / "sam3.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(folder / "sam3.pt", "cut off, or no file that PyTorch saved")
    (folder / "sam3.pt").unlink()
    (folder / "sam3.pt").mkdir()
    refused(folder / "sam3.pt", "is empty")
    refused(folder, "Expected weights")
    refused(folder / "other.pt", "There is no file")
    for name in ("a.pt", "b.pt"):
        (folder / name).write_bytes(b"")
    refused(folder, "Expected one checkpoint in .* a.pt")


def test_without_its_own_the_architecture_is_sam_3s(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "sam3.pt")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))  # of another download
    assert load_config(tmp_path / "sam3.pt").image_size == 1008
    refused(tmp_path / "sam3.pt", "weights are missing .*layers.6.layer_norm1")


def test_a_tokenizer_must_have_the_models_vocabulary(folder: Path, state: State) -> None:
    torch.save(state, folder / "sam3.pt")
    with pytest.raises(ModelError, match=r"has 978 tokens, but the model's text encoder 49,408"):
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["vocab_size"] = 49408
        (folder / "config.json").write_text(json.dumps(config))
        load_processor(folder, processor="demo")


def test_a_repository_with_nothing_but_a_checkpoint(folder: Path, state: State, monkeypatch, demo: LoadedModel) -> None:
    """facebook/sam3.1: the .pt is downloaded only where there are no safetensors."""
    asked: list[list[str]] = []

    def fake(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        if "*.pt" in allow_patterns:
            torch.save(state, folder / "sam3.1_multiplex.pt")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda name: ["config.json", "sam3.1_multiplex.pt"])
    assert load_processor("facebook/sam3.1").image_processor.size["height"] == 168
    assert not any("*.pt" in patterns for patterns in asked), "a tokenizer needs no weights"
    assert same_weights(load_base("facebook/sam3.1"), demo)
    assert "*.pt" in asked[-1]
    assert "*.pt" not in asked[-2]


def test_before_it_is_downloaded_a_checkpoints_architecture_is_what_it_will_be(tmp_path, monkeypatch) -> None:
    """Configure and a batch size of auto ask for it first."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda name: ["sam3.pt", "README.md"])
    assert load_config("someone/sam3").image_size == 1008
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3_tracker"}))
    assert load_config("someone/sam3").model_type == "sam3"
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda name: ["sam3.pt", "model-1-of-2.safetensors"])
    with pytest.raises(ModelError, match="of type 'sam3_tracker'"):
        load_config("someone/sam3")


def test_reading_maps_the_file_and_copies_nothing(folder: Path, state: State) -> None:
    torch.save(state, folder / "sam3.pt")
    weights = meta_file.read(folder / "sam3.pt")
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], value) for name, value in state.items())
