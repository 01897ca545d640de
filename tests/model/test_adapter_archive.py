"""Adapters as archives: what is taken, and what is refused with its reason before anything is written."""

import io
import json
import pickle
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.adapter_files.archive import unpack
from sam3_lora.model.base import load_base, load_config
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.run import Run

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("adapter") / "best"
    model = lora.attach(load_base("demo", image_size=84).model, AdapterConfig())
    lora.save(model, folder, "demo", card="A card.", processor="someone/else")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(archive: Path, into: Path) -> Path:
    with archive.open("rb") as file:
        return unpack(file, into)


@pytest.mark.parametrize("prefix", ["", "mine/", "a/b/"])
def test_an_adapters_archive_is_unpacked_once(files, tmp_path, prefix) -> None:
    extra = {"__MACOSX/._x.bin": b"", f"{prefix}.DS_Store": b""}
    archive = zipped(tmp_path / "a.zip", {prefix + name: content for name, content in files.items()} | extra)
    folder = unpacked(archive, tmp_path / "kept")
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, adapter_base.FILE]
    assert (folder / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert adapter_base.read(folder) == AdapterBase(84, ""), "a processor that an archive names is not used"
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


def not_finite(files: dict[str, bytes], tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / WEIGHTS).write_bytes(files[WEIGHTS])
    state = load_file(tmp_path / WEIGHTS)
    next(iter(state.values()))[0] = torch.nan
    return files | {WEIGHTS: save(state)}


WRONG = {
    "pickle beside": (lambda f, _: f | {"adapter_model.bin": pickle.dumps(Trap())}, "pickled weights"),
    "pickle instead": (lambda f, _: {CONFIG: f[CONFIG], "x/weights.PT": b""}, "pickled weights"),
    "pickle in disguise": (lambda f, _: f | {WEIGHTS: pickle.dumps(Trap())}, "is damaged"),
    "climbs": (lambda f, _: f | {"../../evil.json": b"{}"}, "leads out"),
    "climbs by a text": (lambda f, _: f | {"../evil.txt": b""}, "leads out"),
    "climbs backwards": (lambda f, _: f | {"..\\evil.json": b"{}"}, "leads out"),
    "absolute": (lambda f, _: f | {"/tmp/evil.json": b"{}"}, "leads out"),
    "drive": (lambda f, _: f | {"C:/evil.json": b"{}"}, "leads out"),
    "program": (lambda f, _: f | {"setup.py": b""}, "only safetensors and JSON files"),
    "archive inside": (lambda f, _: f | {"more.zip": b""}, "only safetensors and JSON files"),
    "bomb": (lambda f, _: f | {"config.json": bytes(8 << 20)}, "would take"),
    "many files": (lambda f, _: f | {f"{number}.json": b"" for number in range(1001)}, "1,003|1,004|1,005"),
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


def test_links_passwords_and_lies_are_refused(files, tmp_path) -> None:
    link = zipfile.ZipInfo("adapter_config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="is a link"):
        unpacked(tmp_path / "link.zip", tmp_path / "kept")

    locked = bytearray(zipped(tmp_path / "a.zip", files).read_bytes())
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(ModelError, match="password"):
        unpacked(tmp_path / "locked.zip", tmp_path / "kept")

    # Says it is small, and is not: no more than it says is read, and the checksum then gives it away.
    lying = io.BytesIO()
    with zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CONFIG, bytes(50 << 20))
        archive.writestr(WEIGHTS, files[WEIGHTS])
    content = bytearray(lying.getvalue())
    where = content.index(b"PK\x01\x02") + 24
    content[where : where + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "lying.zip").write_bytes(content)
    with pytest.raises(ModelError):
        unpacked(tmp_path / "lying.zip", tmp_path / "kept")


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
