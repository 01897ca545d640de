"""The tokenizer of a checkpoint that has none: CLIP's, made of the file that packages ship."""

import gzip
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Sam3Config

from sam3_lora.errors import ModelError
from sam3_lora.model.base_files import processor as processors
from sam3_lora.model.base_files.locate import BaseFiles
from sam3_lora.model.base_files.processor import clip_tokenizer

PHRASES = [
    "pothole",
    "a Long  crack, in the road's surface",
    "hố gà",
    "zyzzyva 42x",
    "snow-covered tree!",
    "日本",
    "3.5",
]


@pytest.fixture(scope="module")
def merges_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As OpenAI's, which is not ours to copy: as many merges, of pairs and triples of letters and digits."""
    letters = [chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(ord("0"), ord("9") + 1))]
    followers = [*letters, *(letter + "</w>" for letter in letters)]
    pairs = [(first, second) for first in letters for second in followers]
    pairs += [(first + second, third) for first in letters for second in letters for third in followers]
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs[:48894]), "beyond the vocabulary"]
    file = tmp_path_factory.mktemp("open_clip") / "bpe_simple_vocab_16e6.txt.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return file


def test_tokens_are_those_of_the_reference(merges_file: Path) -> None:
    reason = "the reference (package sam3, with what it imports) is not installed"
    reference = pytest.importorskip("sam3.model.tokenizer_ve", reason=reason, exc_type=ImportError)
    theirs = reference.SimpleTokenizer(bpe_path=str(merges_file), context_length=32)(PHRASES)
    tokenizer = clip_tokenizer(merges_file)
    ours = tokenizer(PHRASES, padding="max_length", max_length=32, truncation=True, return_tensors="pt")
    assert torch.equal(ours["input_ids"] * ours["attention_mask"], theirs), (
        "the reference pads with 0, CLIP with its end"
    )
    assert torch.equal(ours["attention_mask"], (theirs != 0).long())
    assert len(tokenizer) == 49408
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, 49407)


def test_it_is_made_of_an_installed_packages_vocabulary(merges_file: Path, tmp_path: Path, monkeypatch) -> None:
    found = SimpleNamespace(origin=str(merges_file.parent / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "open_clip" else None)
    files = BaseFiles(tmp_path, tmp_path / "sam3.pt")
    made = processors.load_processor(files, Sam3Config(), None, "")
    assert made(text=["pothole"], return_tensors="pt")["input_ids"].shape == (1, 32)
    assert made.image_processor.size["height"] == 1008


def test_without_any_vocabulary_the_error_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="has no tokenizer") as caught:
        processors.load_processor(BaseFiles(tmp_path, tmp_path / "sam3.pt"), Sam3Config(), None, "")
    assert "--processor" in caught.value.fix
    assert "open_clip_torch" in caught.value.fix
