"""Adapters as archives: what is taken, and what is refused with its reason before anything is written."""

import io
import json
import pickle
import stat
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import adapter_base, taught_phrases
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.adapter_files.archive import unpack
from sam3_lora.model.base import load_base, load_config
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.run import Run
from tests.hostile_adapters import ENDLESS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("adapter") / "best"
    model = lora.attach(load_base("demo", image_size=84).model, AdapterConfig())
    lora.save(model, folder, "demo", card="A card.", processor="someone/else", taught=["crack"])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def fits(folder: Path, place: str) -> None:
    lora.check_fit(load_config("demo"), folder, place)


def unpacked(archive: Path, into: Path, check: Callable[[Path, str], None] = fits) -> Path:
    with archive.open("rb") as file:
        return unpack(file, into, check)


@pytest.mark.parametrize("prefix", ["", "mine/", "a/b/"])
def test_an_adapters_archive_is_unpacked_once(files, tmp_path, prefix) -> None:
    extra = dict.fromkeys(
        ("__MACOSX/._x.bin", *(prefix + name for name in (".DS_Store", "README.md", "evaluation.svg"))), b""
    )
    archive = zipped(tmp_path / "a.zip", {prefix + name: content for name, content in files.items()} | extra)
    folder = unpacked(archive, tmp_path / "kept")
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, adapter_base.FILE, taught_phrases.FILE]
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert adapter_base.read(folder) == AdapterBase(84, ""), "a processor that an archive names is not used"
    assert taught_phrases.read(folder) == ("crack",)
    lora.check_fit(load_config("demo"), folder)
    (folder / WEIGHTS).touch()
    assert unpacked(archive, tmp_path / "kept") == folder
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [folder.name]


def test_a_runs_archive_gives_its_best_adapter(files, tmp_path) -> None:
    run = Run.create(RunConfig().with_settings({"output.runs": str(tmp_path / "runs")}))
    for kind in ("last", "best"):
        folder = run.folder / "adapters" / kind
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    settings = run.folder / "adapters" / "best" / CONFIG
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"lora_alpha": 77}))
    folder = unpacked(zip_run(run.folder, tmp_path / "run.zip"), tmp_path / "kept")
    assert json.loads((folder / CONFIG).read_text())["lora_alpha"] == 77


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def evil(settings: bytes) -> bytes:
    return json.dumps(json.loads(settings) | {"target_modules": ENDLESS[0]}).encode()


def not_finite(files: dict[str, bytes], tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / WEIGHTS).write_bytes(files[WEIGHTS])
    state = load_file(tmp_path / WEIGHTS)
    next(iter(state.values()))[0] = torch.nan
    return files | {WEIGHTS: save(state)}


WRONG = {
    "pickle beside": (lambda f, _: f | {"adapter_model.bin": pickle.dumps(Trap())}, "pickled weights"),
    "pickle instead": (lambda f, _: {CONFIG: f[CONFIG], "x/weights.PT": b""}, "pickled weights"),
    "pickle in disguise": (lambda f, _: f | {WEIGHTS: pickle.dumps(Trap())}, "is damaged"),
    "another base": (lambda f, _: f | {CONFIG: f[CONFIG].replace(b'"r": 16', b'"r": 4')}, "rank 16"),
    "a pattern without an end": (lambda f, _: f | {CONFIG: evil(f[CONFIG])}, "does not select"),
    "climbs": (lambda f, _: f | {"../../evil.json": b"{}"}, "leads out"),
    "climbs by a text": (lambda f, _: f | {"../evil.txt": b""}, "leads out"),
    "climbs backwards": (lambda f, _: f | {"..\\evil.json": b"{}"}, "leads out"),
    "absolute": (lambda f, _: f | {"/tmp/evil.json": b"{}"}, "leads out"),
    "drive": (lambda f, _: f | {"C:/evil.json": b"{}"}, "leads out"),
    "program": (lambda f, _: f | {"setup.py": b""}, "only safetensors and JSON files"),
    "archive inside": (lambda f, _: f | {"more.zip": b""}, "only safetensors and JSON files"),
    "bomb": (lambda f, _: f | {"config.json": bytes(8 << 20)}, "would take"),
    "bomb of weights": (lambda f, _: f | {WEIGHTS: bytes(200 << 20)}, "would grow from 0.2 to 210 MB"),
    "many files": (lambda f, _: f | {f"{number}.json": b"" for number in range(1001)}, "1,00[3-6]"),
    "nothing": (lambda f, _: {}, "contains no adapter_config.json"),
    "settings alone": (lambda f, _: {CONFIG: f[CONFIG]}, "there is none"),
    "weights apart": (lambda f, _: {CONFIG: f[CONFIG], f"x/{WEIGHTS}": f[WEIGHTS]}, "there is none"),
    "settings damaged": (lambda f, _: f | {CONFIG: b"{"}, "cannot be read"),
    "weights cut off": (lambda f, _: f | {WEIGHTS: f[WEIGHTS][:999]}, "is damaged"),
    "not finite": (not_finite, "not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_adapter_is_refused_and_leaves_nothing(files, tmp_path, name: str) -> None:
    make, reason = WRONG[name]
    archive = zipped(tmp_path / "a.zip", make(files, tmp_path))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=reason) as caught:
        unpacked(archive, tmp_path / "kept")
    assert caught.value.fix and "unpack-" not in str(caught.value)
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "kept"}


def field(content: bytes, name: str, offset: int, value: int, size: int) -> bytes:
    """Forges a field of a file's entry in the archive's list of files."""
    at = content.rindex(name.encode()) - 46 + offset
    return content[:at] + value.to_bytes(size, "little") + content[at + size :]


def link(path: Path, files: dict[str, bytes]) -> None:
    entry = zipfile.ZipInfo(CONFIG)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")


def locked(path: Path, files: dict[str, bytes]) -> None:
    path.write_bytes(field(zipped(path, files).read_bytes(), WEIGHTS, 8, 1, 2))


def declares(size: int, packed: int | None = None) -> Callable[[Path, dict[str, bytes]], None]:
    """Weights of 60 MB of zeros, of which the list of files says something else."""

    def make(path: Path, files: dict[str, bytes]) -> None:
        content = field(zipped(path, files | {WEIGHTS: bytes(60 << 20)}).read_bytes(), WEIGHTS, 24, size, 4)
        path.write_bytes(content if packed is None else field(content, WEIGHTS, 20, packed, 4))

    return make


def twice(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(zipped(path, files), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(WEIGHTS, files[WEIGHTS])


def compressed_by(method: int) -> Callable[[Path, dict[str, bytes]], None]:
    def make(path: Path, files: dict[str, bytes]) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return make


def damaged(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = path.read_bytes()
    end = content.index(files[WEIGHTS]) + len(files[WEIGHTS])
    path.write_bytes(content[: end - 4] + b"\1\2\3\4" + content[end:])


def long_list(path: Path, files: dict[str, bytes]) -> None:
    """20,000 entries, 3 MB."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{'x' * 100}{number}.txt", b"")


FORGED = {
    "a link": (link, "is a link"),
    "a password": (locked, "password"),
    "small and is not": (declares(1000), "damaged|Bad CRC"),
    "as large as allowed and shrinks well": (declares(60 << 20, 50 << 20), "would grow|cannot be"),
    "one of two": (twice, "twice"),
    "bzip2": (compressed_by(zipfile.ZIP_BZIP2), "not supported"),
    "lzma": (compressed_by(zipfile.ZIP_LZMA), "not supported"),
    "wrong checksum": (damaged, "Bad CRC"),
    "a long list": (long_list, "list of files is too long"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_archive_is_refused_and_leaves_nothing(files, tmp_path, name: str) -> None:
    make, reason = FORGED[name]
    make(tmp_path / "a.zip", files)
    started = time.thread_time()
    with pytest.raises(ModelError, match=reason):
        unpacked(tmp_path / "a.zip", tmp_path / "kept")
    assert time.thread_time() - started < 2
    assert not list((tmp_path / "kept").glob("*"))


def test_flipped_bytes_end_in_a_sentence_or_a_whole_adapter(files, tmp_path) -> None:
    small = zipped(tmp_path / "a.zip", {CONFIG: files[CONFIG], WEIGHTS: files[WEIGHTS][:2000]}).read_bytes()
    ends = [*range(120), *range(len(small) - 260, len(small))]  # the headers and the list of files
    accepted = 0
    for position in ends:
        flipped = bytearray(small)
        flipped[position] ^= 0xFF
        with suppress(ModelError):
            unpack(io.BytesIO(flipped), tmp_path / "kept", lambda folder, place: None)
            accepted += 1
    assert 0 < accepted < len(ends) / 2, "times and attributes do not matter, the rest does"


def test_an_unpacked_adapter_that_does_not_fit_any_more_is_refused_but_stays(files, tmp_path) -> None:
    def refuse(folder: Path, place: str) -> None:
        raise ModelError("No", "Choose another one")

    archive = zipped(tmp_path / "a.zip", files)
    with pytest.raises(ModelError):
        unpacked(archive, tmp_path / "kept", refuse)
    assert not list((tmp_path / "kept").iterdir())
    folder = unpacked(archive, tmp_path / "kept")
    with pytest.raises(ModelError):
        unpacked(archive, tmp_path / "kept", refuse)
    assert (folder / WEIGHTS).is_file(), "another tab works with it"


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_zip_is_refused(tmp_path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ModelError, match="zip archive"):
        unpacked(tmp_path / "a.zip", tmp_path / "kept")


def test_an_adapter_for_another_base_is_refused_without_loading_either(files, tmp_path) -> None:
    folder = unpacked(zipped(tmp_path / "a.zip", files), tmp_path / "kept")
    from transformers import Sam3Config

    with pytest.raises(ModelError, match="another base model"):
        lora.check_fit(Sam3Config(), folder)
