"""A corpus of hostile adapters: what is done to a good one's folder, and what must be said about it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from sam3_lora.config import AdapterConfig
from sam3_lora.model import lora
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, WEIGHTS
from sam3_lora.model.adapter_files.taught_phrases import FILE as TAUGHT
from sam3_lora.model.base import load_base

Damage = Callable[[Path], object]
LAYER = "detr_decoder.layers.0.self_attn.q_proj"
# Python's re would not come back from matching these against the name of a layer.
ENDLESS = (
    r"(([a-z_.0-9]*)*)*X",
    r"(.*.*)*X",
    r"(\w+\.?)*\d{9}",
    r"^(([a-z0-9])+.)+[A-Z]([a-z])+$",
    r"(a|a|b|b|c|c|d|d|e|e|\w|\w|\.|\.)*X",
)
# These take RE2 seconds with all layers, or much memory.
SLOW = (
    "(?:.?){1000}" * 9 + "Z",
    "|".join(f".*{a}.*{b}.*{c}" for a in "vision" for b in "encoder" for c in "layers0123456789"),
    "(a|b" * 3000 + ")" * 3000,
    "(?:[a-z]|[^a-m]?){1000}" * 20 + "Z",
)


def make_adapter(folder: Path) -> Path:
    """A good adapter for the demo's base: rank 4, every attention and MLP of the decoder."""
    torch.manual_seed(0)
    model = lora.attach(load_base("demo").model, AdapterConfig(rank=4, alpha=8, components=["detr_decoder"]))
    lora.save(model, folder, "demo", taught=["crack"])
    return folder


def settings(**values: Any) -> Damage:
    """Changes values in adapter_config.json; ... removes one."""

    def damage(folder: Path) -> None:
        file = folder / SETTINGS
        merged = json.loads(file.read_text()) | values
        file.write_text(json.dumps({name: value for name, value in merged.items() if value is not ...}))

    return damage


def text(content: str | bytes) -> Damage:
    """Replaces adapter_config.json."""
    return lambda folder: (folder / SETTINGS).write_bytes(content.encode() if isinstance(content, str) else content)


def all_weights(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Damage:
    """Changes the weights."""

    def damage(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)

    return damage


def weights(change: Callable[[Tensor], Tensor], part: str = "lora_A") -> Damage:
    """Changes one part of one layer."""
    key = f"base_model.model.{LAYER}.{part}.weight"
    return all_weights(lambda state: state | {key: change(state[key]).contiguous()})


def put(value: float) -> Damage:
    """One weight gets this value."""
    return weights(lambda tensor: tensor.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(value)))


def header(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    """Changes the header of the weights' file and leaves the data."""

    def damage(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        new = json.dumps(change(json.loads(content[8:end]))).encode()
        (folder / WEIGHTS).write_bytes(len(new).to_bytes(8, "little") + new + content[end:])

    return damage


def replaced(name: str, make: Callable[[Path], object]) -> Damage:
    """Something else takes the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def _overlapping(entries: dict[str, Any]) -> dict[str, Any]:
    first, second = [name for name in entries if name != "__metadata__"][:2]
    return entries | {second: entries[second] | {"data_offsets": entries[first]["data_offsets"]}}


def _beyond(entries: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in entries if name != "__metadata__")
    return entries | {name: {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}


def _more_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {name.replace("decoder.layers.0.mlp", "encoder.layers.0.mlp"): state[name].clone() for name in state}


_GOOD = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
_DEEP = '{"peft_type": "LORA", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"

SETTINGS_CASES: dict[str, tuple[Damage, str]] = {
    "no rank": (settings(r=0), r"\$.r"),
    "rank is text": (settings(r="4"), r"\$.r"),
    "rank is true": (settings(r=True), r"\$.r"),
    "rank is a fraction": (settings(r=4.5), r"\$.r"),
    "rank is enormous": (settings(r=10**9), r"\$.r"),
    "rank beyond 64 bits": (settings(r=10**30), r"\$.r"),
    "negative alpha": (settings(lora_alpha=-1), "lora_alpha"),
    "alpha is text": (settings(lora_alpha="8"), "lora_alpha"),
    "alpha is enormous": (settings(lora_alpha=1e9), "lora_alpha"),
    "alpha of a layer is enormous": (settings(alpha_pattern={"q_proj": 1e9}), "alpha_pattern"),
    "alpha of a layer is zero": (settings(alpha_pattern={"q_proj": 0}), "alpha_pattern"),
    "rank of a layer is text": (settings(rank_pattern={"q_proj": "4"}), "rank_pattern"),
    "rank of a layer is zero": (settings(rank_pattern={"q_proj": 0}), "rank_pattern"),
    "rank of a layer differs": (settings(rank_pattern={"q_proj": 5}), "rank 4, but"),
    "a list of ranks": (settings(rank_pattern=[4]), "rank_pattern"),
    "too many ranks": (settings(rank_pattern={f"x{i}": 4 for i in range(3000)}), "rank_pattern"),
    "targets are a number": (settings(target_modules=5), "target_modules"),
    "targets are numbers": (settings(target_modules=[5]), "target_modules"),
    "targets are an object": (settings(target_modules={"q_proj": 1}), "target_modules"),
    "targets are nothing": (settings(target_modules=None), "no target_modules"),
    "no targets": (settings(target_modules=...), "no target_modules"),
    "too many targets": (settings(target_modules=["q_proj"] * 9000), "target_modules"),
    "too long a pattern": (settings(target_modules="a" * 200_000), "target_modules"),
    "too long a name": (settings(target_modules=["a" * 2000]), "target_modules"),
    "exclusions are a number": (settings(exclude_modules=5), "exclude_modules"),
    "all is excluded": (settings(exclude_modules=".*"), "does not select"),
    "layers are text": (settings(layers_to_transform="0"), "layers_to_transform"),
    "layers are negative": (settings(layers_to_transform=[-1]), "layers_to_transform"),
    "layers are true": (settings(layers_to_transform=True), "layers_to_transform"),
    "layers of a pattern": (settings(target_modules=".*q_proj", layers_to_transform=[0]), "layers_to_transform beside"),
    "a pattern of layers alone": (settings(target_modules=["q_proj"], layers_pattern="layers"), "without layers_to_tr"),
    "fewer layers than weights": (settings(target_modules=["q_proj"], layers_to_transform=[0]), "does not select"),
    "layers of another list": (
        settings(target_modules=["q_proj"], layers_to_transform=[0], layers_pattern="blocks"),
        "does not select",
    ),
    "dropout above 1": (settings(lora_dropout=2), "lora_dropout"),
    "flag is a number": (settings(use_dora=1), "use_dora"),
    "flag is text": (settings(use_rslora="false"), "use_rslora"),
    "bias and DoRA": (settings(use_dora=True, lora_bias=True), "lora_bias"),
    "base is a list": (settings(base_model_name_or_path=["demo"]), "base_model_name_or_path"),
    "kind is a list": (settings(peft_type=["LORA"]), "LoRA adapter"),
    "kind is missing": (settings(peft_type=...), "LoRA adapter"),
    "layers are replicated": (settings(layer_replication=[[0, 9]] * 99), "layer_replication"),
    "whole modules": (settings(modules_to_save=["(.*)*X"]), "modules_to_save"),
    "unclosed pattern": (settings(target_modules="("), "target_modules"),
    "look-ahead": (settings(target_modules=r"(?=.*q_proj).*"), "target_modules.*invalid perl operator"),
    "back reference": (settings(exclude_modules=r"(a)\1"), "exclude_modules"),
    "too many repetitions": (settings(rank_pattern={"a{9999}": 4}), "rank_pattern"),
    "read differently by Python": (settings(alpha_pattern={"q{,3}_proj": 4}), "alpha_pattern"),
    "no UTF-8 in a pattern": (settings(target_modules="\ud800"), "target_modules|cannot be read"),
    "nested deeply": (text(_DEEP), "cannot be read"),
    "not a number": (text('{"peft_type": "LORA", "r": NaN}'), "cannot be read"),
    "not UTF-8": (text(b'{"peft_type": "\xff"}'), "cannot be read"),
    "empty": (text(""), "cannot be read"),
    "a list": (text("[]"), "cannot be read"),
    "padded to 5 MB": (text(json.dumps(_GOOD) + " " * 5_000_000), "larger than"),
}

WEIGHTS_CASES: dict[str, tuple[Damage, str]] = {
    "NaN": (put(float("nan")), f"not finite.*{LAYER}"),
    "infinite": (put(float("-inf")), f"not finite.*{LAYER}"),
    "enormous": (put(1e30), rf"absurdly large.*{LAYER}.*1e\+30"),
    "beyond 16 bits": (put(1e5), "absurdly large.*100,000"),
    "all large": (
        all_weights(lambda state: {name: value * 0 + 100 for name, value in state.items()}),
        "multiplies its",
    ),
    "float64 beyond float32": (weights(lambda tensor: tensor.double() + 1e300), r"absurdly large.*1e\+300"),
    "true and false": (weights(lambda tensor: tensor > 0), "lora_A of .*BOOL"),
    "integers": (weights(lambda tensor: tensor.to(torch.int8)), "I8"),
    "complex": (weights(lambda tensor: tensor.to(torch.complex64)), "C64"),
    "8 bits": (weights(lambda tensor: tensor.to(torch.float8_e4m3fn)), "F8"),
    "another shape": (weights(lambda tensor: tensor.T), "another base model"),
    "no matrix": (weights(lambda tensor: tensor.flatten()), "no matrices"),
    "ranks that differ": (weights(lambda tensor: tensor[:, :2], "lora_B"), "do not fit each other"),
    "nothing inside": (weights(lambda tensor: tensor[:0]), "do not fit each other"),
    "more layers than selected": (all_weights(_more_layers), "weights for 2 layers that .* does not select"),
    "no weights at all": (all_weights(lambda state: {}), "incomplete"),
    "half a layer": (all_weights(lambda state: dict(list(state.items())[1:])), "incomplete"),
    "a second name": (
        all_weights(lambda state: state | {k.removesuffix(".weight"): v * 2 for k, v in state.items()}),
        "twice",
    ),
    "a long name": (
        all_weights(lambda state: state | {f"base_model.model.{'x.' * 50_000}lora_A.weight": torch.ones(4, 4)}),
        "another base model",
    ),
    "thousands of names": (
        all_weights(lambda state: state | {f"x{number}": torch.ones(1) for number in range(5_000)}),
        "changes more than",
    ),
    "tensors on each other": (header(_overlapping), "damaged"),
    "tensor beyond the end": (header(_beyond), "damaged"),
    "header beyond the end": (replaced(WEIGHTS, lambda path: path.write_bytes(b"\xff" * 7 + b"\0" * 100)), "header"),
    "header of 20 MB": (header(lambda entries: entries | {"__metadata__": {"x": "y" * 20_000_000}}), "header"),
    "something behind the end": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"0000"), "damaged"),
    "no header": (replaced(WEIGHTS, lambda path: path.write_bytes(b"1234")), "damaged"),
    "another file": (replaced(WEIGHTS, lambda path: path.write_bytes(save({"x": torch.ones(2)}))), "names that PEFT"),
}

FILES_CASES: dict[str, tuple[Damage, str]] = {
    "settings are a pipe": (replaced(SETTINGS, os.mkfifo), f"no {SETTINGS}"),
    "settings never end": (replaced(SETTINGS, lambda path: path.symlink_to("/dev/zero")), f"no {SETTINGS}"),
    "weights are a pipe": (replaced(WEIGHTS, os.mkfifo), "no regular file|there is none"),
    "weights never end": (replaced(WEIGHTS, lambda path: path.symlink_to("/dev/zero")), "no regular file"),
    "weights are a folder": (replaced(WEIGHTS, Path.mkdir), "folder|directory"),
    "weights are elsewhere": (replaced(WEIGHTS, lambda path: path.symlink_to("nowhere")), "there is none"),
}


def _taught(content: str | bytes) -> Damage:
    """Replaces taught_phrases.json."""
    return lambda folder: (folder / TAUGHT).write_bytes(content.encode() if isinstance(content, str) else content)


TAUGHT_CASES: dict[str, tuple[Damage, str]] = {
    f"taught phrases: {name}": (damage, f"{TAUGHT}.*cannot be read: {said}")
    for name, damage, said in (
        ("numbers", _taught('{"phrases": [1]}'), r".*\$.phrases\[0\]"),
        ("one text", _taught('{"phrases": "crack"}'), "Expected `array`"),
        ("nested deeply", _taught('{"phrases": ' + "[" * 100_000 + "]" * 100_000 + "}"), ""),
        ("a list", _taught('["crack"]'), "Expected `object`"),
        ("nothing in it", _taught("{}"), ".*phrases"),
        ("a blank one", _taught('{"phrases": [""]}'), ""),
        ("an endless one", _taught(json.dumps({"phrases": ["x" * 100_000]})), ".*<= 1000"),
        ("too many", _taught(json.dumps({"phrases": ["x"] * 30_000})), ".*<= 20000"),
        ("padded to 2 MB", _taught('{"phrases": ["crack"]}' + " " * 2_000_000), "it is larger than"),
        ("not UTF-8", _taught(b'{"phrases": ["\xff"]}'), ""),
        ("half a letter", _taught(r'{"phrases": ["\ud800"]}'), ""),
        ("empty", _taught(""), ""),
        ("a pipe", replaced(TAUGHT, os.mkfifo), "it is no regular file"),
        ("without an end", replaced(TAUGHT, lambda path: path.symlink_to("/dev/zero")), "it is no regular file"),
        ("a folder", replaced(TAUGHT, Path.mkdir), "it is a folder"),
    )
}

CASES = SETTINGS_CASES | WEIGHTS_CASES | FILES_CASES | TAUGHT_CASES
