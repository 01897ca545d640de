"""What the adapter promises: it reaches what it says, leaves the base alone, and survives saving in PEFT's format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.model import lora
from sam3_lora.model.base import LoadedModel, load_base, load_config
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.recipes import PRESETS, preset
from tests.model.model_helpers import detect, scalar, some_boxes, tensors

COMPONENTS = list(lora._PREFIXES)
KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "mlp"]
EVERYTHING = AdapterConfig(components=COMPONENTS, modules=KINDS, rank=2, alpha=4.0, dropout=0.0)
SMALL = AdapterConfig(components=["detr_decoder", "scoring"], rank=4, alpha=8.0, dropout=0.0)


def trained(base: LoadedModel, config: AdapterConfig = SMALL):
    """An adapter that changes something: as attached, its second factor is zero."""
    model = lora.attach(base.model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return model


def detections(base_model, inputs) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return tensors(Sam3Detector(base_model).eval()(*inputs))


@pytest.fixture(scope="session")
def example_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    lora.save(trained(load_base("demo")), folder, "demo")
    return folder


@pytest.fixture
def saved(example_adapter: Path, tmp_path: Path) -> Path:
    """A copy of an adapter, to be damaged."""
    return Path(shutil.copytree(example_adapter, tmp_path / "adapter"))


@pytest.mark.parametrize(
    "config",
    [*(preset(name).lora for name in PRESETS), EVERYTHING, EVERYTHING.model_copy(update={"dora": True})],
    ids=[*PRESETS, "everything", "dora"],
)
def test_count_equals_what_attach_yields(own_demo: LoadedModel, tmp_path: Path, config: AdapterConfig) -> None:
    base_parameters = own_demo.model.num_parameters()
    counted = lora.count(load_config("demo"), config)
    model = lora.attach(own_demo.model, config)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trainable.values()) == counted.parameters == sum(counted.by_component.values())
    sizes = {
        component: sum(p.numel() for name, p in trainable.items() if name.startswith(f"base_model.model.{prefix}"))
        for component, prefix in lora._PREFIXES.items()
    }
    if "presence_head" in counted.by_component:  # a part of the decoder
        sizes["detr_decoder"] -= sizes["presence_head"]
    assert counted.by_component == {component: sizes[component] for component in config.components}
    assert counted.base_parameters == base_parameters
    assert sum(counted.modules.values()) == len(lora.target_modules(load_config("demo"), config))
    lora.save(model, tmp_path / "adapter", "demo")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(w.numel() * w.element_size() for w in weights.values()) == counted.adapter_bytes


def test_counting_the_published_model_needs_no_weights() -> None:
    from transformers import Sam3Config

    counted = lora.count(Sam3Config(), EVERYTHING)
    assert counted.base_parameters > 800_000_000
    assert counted.modules["vision_encoder"] == 32 * 6
    assert counted.modules["detr_decoder"] == 6 * (3 * 4 + 2)
    assert counted.modules["presence_head"] == 3
    assert counted.by_component["presence_head"] == EVERYTHING.rank * (2 * (256 + 256) + 256 + 1)


def test_every_component_and_kind_is_reached(demo: LoadedModel) -> None:
    for component in COMPONENTS:
        names = lora.target_modules(demo.model, EVERYTHING.model_copy(update={"components": [component]}))
        assert names and all(name.startswith(lora._PREFIXES[component]) for name in names)
    decoder = lora.target_modules(demo.model, AdapterConfig(components=["detr_decoder"]))
    for attention in ("self_attn", "text_cross_attn", "vision_cross_attn"):
        for kind in ("q_proj", "k_proj", "v_proj", "o_proj"):
            assert f"detr_decoder.layers.0.{attention}.{kind}" in decoder


def test_the_presence_head_is_its_own_part_of_the_decoder(own_demo: LoadedModel, tmp_path: Path) -> None:
    decoder = lora.target_modules(own_demo.model, AdapterConfig(components=["detr_decoder"]))
    assert not [name for name in decoder if "presence_head" in name], "as in adapters of earlier versions"
    alone = AdapterConfig(components=["presence_head"], rank=2)
    layers = [f"detr_decoder.presence_head.layer{number}" for number in (1, 2, 3)]
    assert lora.target_modules(own_demo.model, alone) == layers
    model = trained(own_demo, alone)
    assert lora.adapted_components(model) == {"presence_head"}
    assert lora.component_of(f"base_model.model.{layers[0]}.lora_A.default.weight") == "presence_head"
    assert lora.component_of("detr_decoder.presence_layer_norm.weight") == "detr_decoder"

    from peft import PeftModel

    lora.save(model, tmp_path / "adapter", "demo")
    stock = PeftModel.from_pretrained(load_base("demo").model, str(tmp_path / "adapter"))
    state = stock.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_component_without_matching_layers_is_refused_with_the_kinds_it_has(demo: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="scoring has .*q_proj") as caught:
        lora.target_modules(demo.model, AdapterConfig(components=["detr_encoder", "scoring"], modules=["v_proj"]))
    assert "detr_encoder" not in caught.value.message


def test_base_is_frozen_and_a_fresh_adapter_changes_nothing(own_demo: LoadedModel, inputs) -> None:
    before = detections(own_demo.model, inputs)
    model = lora.attach(own_demo.model, EVERYTHING)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name), name
    for name, value in detections(own_demo.model, inputs).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_training_step_moves_the_adapter_only(own_demo: LoadedModel, inputs) -> None:
    model = lora.attach(own_demo.model, SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    scalar(Sam3Detector(own_demo.model).train()(*inputs)).backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all("lora_" in name for name in moved)


def test_every_layer_of_every_component_gets_a_gradient(own_demo: LoadedModel, inputs) -> None:
    model = lora.attach(own_demo.model, EVERYTHING)
    # With its own token alone in view, the geometry encoder's self-attention has nothing to choose from,
    # and the gradient of what it asks for is exactly zero: boxes are needed to see all of it.
    found = detect(Sam3Detector(own_demo.model).train(), inputs, *some_boxes(len(inputs.input_ids)))
    scalar(found).backward()
    second_factors = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert len(second_factors) == len(lora.target_modules(load_config("demo"), EVERYTHING))
    silent = [name for name, p in second_factors.items() if p.grad is None or p.grad.abs().max() == 0]
    assert silent == []
    assert all(p.grad is None for name, p in model.named_parameters() if "lora_" not in name)


def test_same_seed_same_adapter() -> None:
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model = lora.attach(load_base("demo").model, SMALL)
        states.append({name: p.clone() for name, p in model.named_parameters() if "lora_A" in name})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_adapter_is_float32_on_a_bf16_base(inputs) -> None:
    base = load_base("demo")
    model = lora.attach(base.model.to(torch.bfloat16), SMALL)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    scalar(Sam3Detector(base.model).train()(*inputs)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("variant", [{}, {"rslora": True}, {"dora": True}], ids=["lora", "rslora", "dora"])
def test_saving_and_loading_gives_equal_detections(own_demo: LoadedModel, tmp_path: Path, inputs, variant) -> None:
    from peft import PeftModel
    from transformers import Sam3Model

    from sam3_lora.config import ASSETS

    untouched = detections(own_demo.model, inputs)
    model = trained(own_demo, SMALL.model_copy(update=variant))
    expected = detections(own_demo.model, inputs)
    assert (expected["logits"] - untouched["logits"]).abs().max() > 1e-3
    lora.save(model, tmp_path / "adapter", "demo")

    again = load_base("demo")
    loaded = lora.load(again.model, tmp_path / "adapter")
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training
    stock = Sam3Model.from_pretrained(ASSETS / "demo" / "model", dtype=torch.float32)
    stock = PeftModel.from_pretrained(stock, str(tmp_path / "adapter"))
    for base_model in (again.model, stock.get_base_model()):
        for name, value in detections(base_model, inputs).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_saved_folder_names_its_base_and_holds_no_pickle(saved: Path) -> None:
    expected = {"adapter_config.json", "adapter_model.safetensors", "base_model.json"}
    assert {file.name for file in saved.iterdir()} == expected
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == "demo"
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]


def test_a_failed_save_leaves_the_earlier_adapter(own_demo: LoadedModel, saved: Path, monkeypatch) -> None:
    before = (saved / "adapter_model.safetensors").read_bytes()
    model = trained(own_demo)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_pretrained", full_disk)
    with pytest.raises(ModelError, match="No space left"):
        lora.save(model, saved, "demo")
    assert (saved / "adapter_model.safetensors").read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]


def test_merged_model_detects_as_the_adapter_did(own_demo: LoadedModel, inputs) -> None:
    model = trained(own_demo)
    expected = detections(own_demo.model, inputs)
    merged = lora.merge(model)
    assert not any("lora_" in name for name, _ in merged.named_parameters())
    for name, value in detections(merged, inputs).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_merging_an_adapter_of_nan_is_refused(own_demo: LoadedModel) -> None:
    model = trained(own_demo)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        lora.merge(model)


def drop_weights(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    state = load_file(file)
    save_file({name: value for name, value in state.items() if "layers.0" not in name}, file)


def widen(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    state = load_file(file)
    save_file({n: torch.zeros(v.shape[0], 999) if "lora_A" in n else v for n, v in state.items()}, file)


def rename(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({n.replace("detr_decoder", "decoder"): v for n, v in load_file(file).items()}, file)


def flatten(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({n: torch.tensor(1.0) if "lora_A" in n else v for n, v in load_file(file).items()}, file)


def truncate(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def edit_settings(**values):
    def edit(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return edit


def pickle_instead(folder: Path) -> None:
    state = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(state, folder / "adapter_model.bin")


DAMAGE = {
    "no settings": (lambda f: (f / "adapter_config.json").unlink(), "contains no adapter_config.json"),
    "settings cut off": (lambda f: (f / "adapter_config.json").write_text('{"peft_type": "LO'), "cannot be read"),
    "settings of another kind": (lambda f: (f / "adapter_config.json").write_text("[]"), "cannot be read"),
    "not LoRA": (edit_settings(peft_type="IA3"), "LoRA adapter.*'IA3'"),
    "unknown method": (edit_settings(peft_type="MAGIC"), "LoRA adapter.*'MAGIC'"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "there is none"),
    "pickled weights": (pickle_instead, "pickled weights are never opened"),
    "weights cut off": (truncate, "half-written"),
    "weights empty": (lambda f: (f / "adapter_model.safetensors").write_bytes(b""), "half-written"),
    "layers missing": (drop_weights, "incomplete"),
    "another rank": (edit_settings(r=3), "have rank 4, but its adapter_config.json says 3"),
    "no pattern": (edit_settings(target_modules="["), "target_modules"),
    "no targets": (edit_settings(target_modules=5), "target_modules|cannot be read"),
    "no scale": (edit_settings(lora_alpha=1e30), "lora_alpha"),
    "DoRA without magnitudes": (edit_settings(use_dora=True), "incomplete"),
    "changes the base": (edit_settings(init_lora_weights="pissa"), "also changes the base"),
    "no matrices": (flatten, "has no matrices"),
    "other sizes": (widen, "another base model"),
    "other layers": (rename, "another base model"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_adapter_is_refused_and_the_model_left_alone(saved: Path, name: str, demo: LoadedModel) -> None:
    damage, message = DAMAGE[name]
    damage(saved)
    with pytest.raises(ModelError, match=message) as caught:
        lora.load(demo.model, saved)
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    assert not any("lora" in parameter for parameter, _ in demo.model.named_parameters())


def test_missing_and_empty_folders_are_refused(tmp_path: Path, demo: LoadedModel) -> None:
    with pytest.raises(ModelError, match="there is none"):
        lora.load(demo.model, tmp_path / "nowhere")
    with pytest.raises(ModelError, match="contains no adapter_config.json"):
        lora.load(demo.model, tmp_path)
