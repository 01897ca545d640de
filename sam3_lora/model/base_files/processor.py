"""The processor of a base model: from its files, from another place, or made of CLIP's vocabulary."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_lora.errors import ModelError, first_line
from sam3_lora.model.base_files.locate import TEXTS, BaseFiles, locate
from sam3_lora.model.base_files.quiet import quiet
from sam3_lora.model.image_size import image_size_of, resize_processor

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Processor

_FIX = "Copy the processor's and tokenizer's files of the original model into it"
# Without a tokenizer's files transformers creates one with an empty vocabulary.
_NEEDED = (("processor_config.json", "preprocessor_config.json"), ("tokenizer.json", "vocab.json"))
# The file of CLIP's merges as OpenAI published it, in packages that ship it. The wheel of sam3 does not.
_VOCABULARIES = (("open_clip", "bpe_simple_vocab_16e6.txt.gz"),)
_MAX_TOKENS = 32  # that SAM 3's text encoder takes


def load_processor(files: BaseFiles, config: Sam3Config, image_size: int | None, named: str) -> Sam3Processor:
    """The processor that the user named, or the base's own, for images of the model's size.

    Args:
        files: of the base model.
        config: its architecture, with the image size to use.
        image_size: as the user asked for it; None for the base's own.
        named: folder or Hub repository of another processor; "" for none.

    Raises:
        ModelError: there is none, it cannot be loaded, or it does not fit the model.
    """
    if named:
        processor = _read(locate(named, TEXTS).folder)
    elif files.checkpoint is not None and not _has_processor(files.folder):
        processor = _from_clip(files.checkpoint)
    else:
        processor = _read(files.folder)
    size, expected = processor.image_processor.size["height"], image_size_of(config)
    if size != expected and not named and image_size is None:
        raise ModelError(
            f"The model in {files.folder} takes images of {expected} pixels, but its processor makes them {size}", _FIX
        )
    if named or files.checkpoint is not None:
        _check_vocabulary(processor, config, named or str(files.folder))
    resize_processor(processor, config)
    return processor


def _has_processor(folder: Path) -> bool:
    return all(any((folder / name).is_file() for name in names) for names in _NEEDED)


def _read(folder: Path) -> Sam3Processor:
    from transformers import Sam3Processor

    for names in _NEEDED:
        if not any((folder / name).is_file() for name in names):
            raise ModelError(f"Expected {names[0]} in {folder}, but there is none", _FIX)
    try:
        with quiet():
            return Sam3Processor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file raises KeyError, TypeError, AttributeError and more
        raise ModelError(f"The processor in {folder} cannot be loaded: {first_line(error)}", _FIX) from error


def _check_vocabulary(processor: Sam3Processor, config: Sam3Config, place: str) -> None:
    """Another vocabulary would load and give other words' features."""
    text: Any = config.text_config
    if (size := len(processor.tokenizer)) != text.vocab_size:
        raise ModelError(
            f"The tokenizer of {place} has {size:,} tokens, but the model's text encoder {text.vocab_size:,}",
            "Give the processor of the same model, such as facebook/sam3 for Meta's sam3.pt",
        )


def _from_clip(checkpoint: Path) -> Sam3Processor:
    """SAM 3's processor with the tokenizer of CLIP, whose vocabulary SAM 3 has."""
    from transformers import Sam3ImageProcessor, Sam3Processor

    for package, name in _VOCABULARIES:
        found = importlib.util.find_spec(package)
        if found is not None and found.origin and (file := Path(found.origin).parent / name).is_file():
            return Sam3Processor(Sam3ImageProcessor(), clip_tokenizer(file))
    raise ModelError(
        f"The checkpoint {checkpoint} has no tokenizer",
        "Name a folder or repository that has SAM 3's as the processor (model.processor, --processor), such as "
        "facebook/sam3, or install CLIP's vocabulary with 'pip install open_clip_torch'",
    )


def clip_tokenizer(merges_file: Path) -> Any:
    """CLIP's tokenizer, as transformers has it, made of the file of merges that OpenAI published.

    The vocabulary follows from it, as in CLIP's ``simple_tokenizer.py``: 256 bytes, the same at the end of a word, the
    merges, and two special tokens.

    Args:
        merges_file: bpe_simple_vocab_16e6.txt.gz.
    """
    from transformers import CLIPTokenizer

    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]  # the first line is a comment
    letters = _bytes_as_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    made: Any = CLIPTokenizer  # its merges are pairs, which their type does not say
    return made(vocab=vocabulary, merges=merges, model_max_length=_MAX_TOKENS)


def _bytes_as_letters() -> list[str]:
    """A printable character for each byte, in CLIP's order: those that are printable, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + number) for number in range(256 - len(printable)))]
