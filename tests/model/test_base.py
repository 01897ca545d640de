"""Loading a base model: every layout that there is, and a fix for everything that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from sam3_lora.config import ASSETS
from sam3_lora.errors import ModelError
from sam3_lora.model.base import LoadedModel, load_base, load_config, resolve_device


def refused(name: str | Path, message: str) -> ModelError:
    """Loading must fail, in one line that has the message and a fix."""
    with pytest.raises(ModelError, match=message) as caught:
        load_base(name)
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    return caught.value


def test_demo_is_frozen_in_eval_mode_and_float32(demo: LoadedModel) -> None:
    assert not demo.model.training
    assert not any(parameter.requires_grad for parameter in demo.model.parameters())
    assert {parameter.dtype for parameter in demo.model.parameters()} == {torch.float32}
    assert demo.image_size == demo.processor.image_processor.size["height"] == 168
    assert demo.name == "demo"


def test_demo_folder_stays_small(demo: LoadedModel) -> None:
    assert sum(file.stat().st_size for file in (ASSETS / "demo" / "model").iterdir()) < 12_000_000


def test_demo_tokenizer_splits_words_it_does_not_know(demo: LoadedModel) -> None:
    tokenizer = demo.processor.tokenizer
    for word in ("pothole", "zyzzyva", "Schlagloch", "hố gà"):
        ids = tokenizer(word)["input_ids"]
        assert len(ids) > 3
        assert tokenizer.unk_token_id not in ids[1:-1]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == word.lower()


def test_demo_detects_phrases(demo: LoadedModel) -> None:
    """The pooled text feature is taken at the end token, which each phrase must hold exactly where it ends."""
    text = demo.processor(text=["pothole", "dog"], return_tensors="pt")
    assert text.input_ids.shape == (2, 32)
    end = demo.model.config.text_config.eos_token_id
    for ids, mask in zip(text.input_ids, text.attention_mask, strict=True):
        assert (ids == end).int().argmax() == mask.sum() - 1


def test_a_folder_in_our_layout(model_folder: Path, demo: LoadedModel) -> None:
    loaded = load_base(str(model_folder))
    assert loaded.name == str(model_folder)
    for name, value in demo.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_the_published_layout_gives_the_same_detector(video_folder: Path, demo: LoadedModel) -> None:
    loaded = load_base(video_folder)
    expected = demo.model.state_dict()
    assert loaded.model.state_dict().keys() == expected.keys()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert loaded.image_size == load_config(video_folder).image_size == 168


@pytest.mark.parametrize("layout", ["model_folder", "video_folder"])
def test_missing_weights_are_refused(request: pytest.FixtureRequest, layout: str, edit_weights) -> None:
    folder = request.getfixturevalue(layout)
    edit_weights(lambda state: {name: value for name, value in state.items() if "presence_head.layer2" not in name})
    refused(folder, "2 of SAM 3's weights are missing.*presence_head.layer2")


def test_weights_of_other_sizes_are_refused(model_folder: Path, edit_weights) -> None:
    edit_weights(lambda state: state | {"detr_decoder.query_embed.weight": torch.zeros(7, 96)})
    refused(model_folder, "other sizes")


def cut(name: str, size: int):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def delete(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def edit_json(name: str, **values):
    def edit(folder: Path) -> None:
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | values))

    return edit


def pickle_instead(folder: Path) -> None:
    delete("model.safetensors")(folder)
    torch.save({}, folder / "pytorch_model.bin")


def small_images(folder: Path) -> None:
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["image_processor"]["size"] = {"height": 84, "width": 84}
    (folder / "processor_config.json").write_text(json.dumps(processor))


DAMAGE = {
    "no config": (delete("config.json"), "config.json .*there is none"),
    "config cut off": (cut("config.json", 100), "config.json .*half-written"),
    "config is a list": (write("config.json", "[]"), "found a list"),
    "another model": (edit_json("config.json", model_type="clip"), "of type 'clip'"),
    "no type": (write("config.json", "{}"), "of type 'None'"),
    "impossible settings": (edit_json("config.json", vision_config={"fpn_hidden_size": "x"}), "does not describe"),
    "weights cut off": (cut("model.safetensors", 1_000_000), "half-written"),
    "weights empty": (cut("model.safetensors", 0), "half-written"),
    "weights are a web page": (write("model.safetensors", "<html>" * 50), "half-written"),
    "no weights": (delete("model.safetensors"), "Expected weights"),
    "pickled weights": (pickle_instead, "Expected weights"),
    "no processor": (delete("processor_config.json"), "Expected processor_config.json"),
    "no tokenizer": (delete("tokenizer.json", "tokenizer_config.json"), "Expected tokenizer.json"),
    "processor cut off": (cut("processor_config.json", 50), "processor .*cannot be loaded"),
    "tokenizer cut off": (cut("tokenizer.json", 500), "processor .*cannot be loaded"),
    "processor of another size": (small_images, "168 pixels.*makes them 84"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused(model_folder: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(model_folder)
    refused(model_folder, message)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "There is no folder")
    refused("nowhere", "There is no folder")
    refused("", "got nothing")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is empty")
    (tmp_path / "weights.bin").write_bytes(b"x")
    refused(tmp_path / "weights.bin", "got the file")


def test_an_adapter_given_as_base_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "as the adapter" in refused(tmp_path, "contains an adapter").fix


def test_too_little_memory_gives_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Sam3Model
    from transformers.models.sam3.modeling_sam3 import Sam3DetrDecoder

    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Sam3DetrDecoder, "to", out_of_memory)
    refused("demo", "memory of 'cpu' is too small")
    monkeypatch.setattr(Sam3Model, "from_pretrained", out_of_memory)
    refused("demo", "memory of 'cpu' is too small")


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/api/models/facebook/sam3"))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


GATED = errors.GatedRepoError("403", response=response(403))
HUB_ERRORS = {
    "gated, logged in": (GATED, "token", "has no access", "Request access at https://huggingface.co/facebook/sam3"),
    "gated, not logged in": (GATED, None, "not logged in", "hf auth login"),
    "no such repository": (
        errors.RepositoryNotFoundError("404", response=response(404)),
        None,
        "neither a folder nor",
        "spelling",
    ),
    "token refused": (errors.HfHubHTTPError("401", response=response(401)), "old", "access token", "hf auth login"),
    "server down": (
        caused(errors.LocalEntryNotFoundError("not cached"), errors.HfHubHTTPError("503", response=response(503))),
        None,
        "HTTP status 503",
        "Try again later",
    ),
    "no network": (
        caused(errors.LocalEntryNotFoundError("not cached"), httpx.ConnectError("name not known")),
        None,
        "cannot be reached",
        "Connect to the internet",
    ),
    "network lost": (httpx.ReadTimeout("timed out"), None, "cannot be reached", "Connect to the internet"),
    "offline by choice": (
        caused(errors.LocalEntryNotFoundError("not cached"), errors.OfflineModeIsEnabled("offline")),
        None,
        "HF_HUB_OFFLINE",
        "Unset",
    ),
    "half downloaded": (
        errors.IncompleteSnapshotError("2 files missing", snapshot_path="cache"),
        None,
        "is incomplete",
        "Connect",
    ),
    "disk full": (OSError(28, "No space left on device"), None, "No space left", "Free disk space"),
}


@pytest.mark.parametrize("name", HUB_ERRORS)
def test_every_error_of_the_hub_is_explained(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    error, token, message, fix = HUB_ERRORS[name]

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    assert fix in refused("facebook/sam3", message).fix


def test_a_repository_is_downloaded_without_the_original_checkpoint(
    monkeypatch: pytest.MonkeyPatch, video_folder: Path
) -> None:
    asked = {}

    def fake(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(video_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    loaded = load_base("facebook/sam3")
    assert loaded.name == "facebook/sam3"
    patterns = asked["facebook/sam3"]
    wanted = ["config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "merges.txt"]
    kept = list(huggingface_hub.utils.filter_repo_objects([*wanted, "sam3.pt"], allow_patterns=patterns))
    assert kept == wanted


def test_counting_facebook_sam3_works_without_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **kwargs):
        raise GATED

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert load_config("facebook/sam3").image_size == 1008
    with pytest.raises(ModelError):
        load_config("someone/else")
    refused("facebook/sam3", "gated")


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    with pytest.raises(ModelError, match="'tpu'"):
        resolve_device("tpu")


@pytest.mark.parametrize(("name", "module"), [("cuda", torch.cuda), ("mps", torch.backends.mps)])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, module) -> None:
    monkeypatch.setattr(module, "is_available", lambda: False)
    with pytest.raises(ModelError, match=f"Expected the device '{name}'"):
        resolve_device(name)
    monkeypatch.setattr(module, "is_available", lambda: True)
    assert resolve_device(name) == torch.device(name)


def test_loading_leaves_the_callers_logging_alone(demo: LoadedModel) -> None:
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        load_base("demo")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
