"""The layers, ranks and alphas that an adapter's settings select are those that PEFT itself selects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import peft
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files.layers import LayerUpdate, peft_config, select_layers
from sam3_lora.model.adapter_files.settings import AdapterSettings
from sam3_lora.model.base import load_base, load_config
from sam3_lora.model.base_files.architecture import skeleton


class _Part(nn.Module):
    """Every third module of the demo's base, which is enough to tell patterns apart."""

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        yield "", self
        yield from _MODULES


_MODULES = list(skeleton(load_config("demo")).named_modules())[1::3]
BASE = _Part()
NAMES = [name for name, _ in _MODULES]


def of_peft(values: dict[str, Any]) -> dict[str, LayerUpdate]:
    """What stock PEFT selects."""
    config = peft.LoraConfig(**values)
    if config.target_modules == "all-linear":
        config.target_modules = {name for name, module in BASE.named_modules() if isinstance(module, nn.Linear)}
    found = {}
    for name in NAMES:
        if check_target_module_exists(config, name):
            rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, name), config.r)
            alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, name), config.lora_alpha)
            found[name] = LayerUpdate(rank, alpha)
    return found


def ours(values: dict[str, Any]) -> dict[str, LayerUpdate]:
    return select_layers(BASE, msgspec.convert(values, AdapterSettings), "here")


# Patterns as trainers write them, and combinations of their pieces. None has repetitions inside of repetitions, so
# that Python's re comes back.
WRITTEN = [
    r".*\.(q|k|v)_proj",
    r".*(self_attn|text_cross_attn)\.[qv]_proj$",
    r"^detr_decoder\.layers\.\d+\..*",
    r"(?:.*?(?:vision|image|visual|patch_embed|patch_merger).*?(?:attention|attn|mlp).*?(?:q_proj|k_proj|fc1).*?)",
    r"(?i).*Q_PROJ",
    r"(?:geometry|detr)_\w+?\.layers\.[0-1]\.\S+",
    r"q_proj|.*\.fc1",
    r".*layers\.(?P<n>\d)\.mlp\.fc[12]",
    r".{10,60}_proj",
    r"[^.]+\.[^.]+",
    r"text_projection",
    r".*\bfc\d\b",
    r"\Adetr_decoder.*",
    r"vision_encoder(\.\w+){4,6}",
    ".*",
    "",
]
PIECES = (
    *"qkv.|^$",
    *r"_proj \. \d \d+ .* \w*? x? [12] (?:a|e) layers detr encoder self_attn mlp fc".split(),
)
patterns = st.one_of(
    st.sampled_from(WRITTEN), st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
).filter(lambda pattern: pattern.count("*") < 4)
endings = st.builds(lambda name, parts: ".".join(name.split(".")[-parts:]), st.sampled_from(NAMES), st.integers(1, 4))
others = st.sampled_from(["q_proj", "proj", "fc1", "layers.0", "", "Q_PROJ"])
name_lists = st.lists(st.one_of(endings, others), max_size=5)
keys = st.one_of(endings, patterns, endings.map(re.escape), endings.map("^{}".format))
shared = {
    "r": st.integers(1, 9),
    "lora_alpha": st.just(8.0),
    "exclude_modules": st.one_of(st.none(), patterns, name_lists),
    "rank_pattern": st.dictionaries(keys, st.integers(1, 9), max_size=3),
    "alpha_pattern": st.dictionaries(keys, st.integers(1, 9).map(float), max_size=3),
}
layers = st.one_of(st.none(), st.integers(0, 5), st.lists(st.integers(0, 5), max_size=3))
layer_patterns = st.one_of(
    st.sampled_from(["layers", "", "blocks", r"layer.", "layers|x", "(?:layers|mlp)"]),
    st.lists(st.sampled_from(["x", "layers", "[a-l]ayers"]), max_size=3),
)


@st.composite
def adapters(draw: st.DrawFn) -> dict[str, Any]:
    values = {name: draw(strategy) for name, strategy in shared.items()}
    if draw(st.booleans()):
        return values | {"target_modules": draw(st.one_of(patterns, st.just("all-linear")))}
    indices = draw(layers)
    pattern = None if indices is None else draw(st.one_of(st.none(), layer_patterns))
    return values | {"target_modules": draw(name_lists), "layers_to_transform": indices, "layers_pattern": pattern}


@given(adapters())
@hypothesis_settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_the_settings_say_peft_selects_the_same(values: dict[str, Any]) -> None:
    try:
        expected = of_peft(values)
    except (re.error, ValueError):  # PEFT cannot read them either: no adapter has them
        return
    assert ours(values) == expected


@pytest.mark.parametrize("pattern", WRITTEN)
def test_patterns_as_trainers_write_them_are_read(pattern: str) -> None:
    for values in (
        {"target_modules": pattern},
        {"target_modules": ".*_proj", "exclude_modules": pattern},
        {"target_modules": ".*_proj", "rank_pattern": {pattern.removeprefix("(?i)"): 3}},
    ):
        assert ours(values) == of_peft(values)


@pytest.mark.parametrize(
    "pattern", [r"(?=a).*", r"(?<!x)q_proj", r"(a)\1", r"a++", r"(?>a)", r"a{,3}", r"[[:alpha:]]", r"a{2000}", r"\Z"]
)
def test_what_only_a_backtracking_engine_reads_is_refused(pattern: str) -> None:
    for values in (
        {"target_modules": pattern},
        {"target_modules": ["q_proj"], "exclude_modules": pattern},
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": pattern},
        {"target_modules": ["q_proj"], "rank_pattern": {pattern: 3}},
        {"target_modules": ["q_proj"], "alpha_pattern": {pattern: 3.0}},
    ):
        with pytest.raises(ModelError, match=list(values)[-1]) as refused:
            ours(values)
        assert "names of the layers" in refused.value.fix


LOADED: dict[str, dict[str, Any]] = {
    "ranks and alphas by patterns": {
        "target_modules": r"detr_decoder\.layers\.\d\.(self|text_cross)_attn\.[qkv]_proj",
        "rank_pattern": {"q_proj": 2, r"layers.1.*[kv]_proj": 3, "^detr_decoder.layers.0.self_attn.v_proj": 5},
        "alpha_pattern": {r".*\.self_attn\..*": 32, "v_proj": 1},
    },
    "all linear layers but some": {"target_modules": "all-linear", "exclude_modules": r"vision_encoder.*|.*fc\d"},
    "a name that ends another": {"target_modules": r"text_projection|.*text_proj", "use_rslora": True},
    "names and layers": {"target_modules": ["q_proj", "mlp.fc1"], "layers_to_transform": [1], "use_dora": True},
}


@pytest.mark.parametrize("kind", LOADED)
def test_a_loaded_adapter_has_the_layers_ranks_and_scales_of_peft(kind: str, tmp_path: Path) -> None:
    stock = peft.get_peft_model(load_base("demo").model, peft.LoraConfig(r=4, lora_alpha=8, **LOADED[kind]))
    with torch.no_grad():
        for parameter in stock.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.rand_like(parameter))
    stock.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    loaded = lora.load(load_base("demo").model, tmp_path / "adapter")

    def updates(model: nn.Module) -> dict[str, tuple[int, float]]:
        return {
            name: (module.r["default"], module.scaling["default"])
            for name, module in model.named_modules()
            if isinstance(module, LoraLayer)
        }

    assert updates(loaded) == updates(stock) != {}
    weights = stock.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_peft_is_given_names_and_no_pattern_of_the_file() -> None:
    values = {"target_modules": r".*[qv]_proj", "exclude_modules": "x.*", "rank_pattern": {"q_.*": 3, "v_.*": 3}}
    settings = msgspec.convert(values, AdapterSettings)
    config = peft_config(settings, select_layers(BASE, settings, "here"))
    given = [config.target_modules, *config.rank_pattern, *config.alpha_pattern]
    for pattern in given:
        names = pattern.removeprefix("^(?:").removesuffix(")$").replace("\\.", ".").split("|")
        assert set(names) <= set(NAMES)
    assert config.exclude_modules is config.layers_pattern is None
    assert config.r == 8 and list(config.rank_pattern.values()) == [3]
