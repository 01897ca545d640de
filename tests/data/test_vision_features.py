"""Files of image features: whole or not at all, bounded, the least recently used deleted first."""

import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3_lora.data import vision_features
from sam3_lora.data.content_hashes import ContentHashes
from sam3_lora.data.records import ImageRecord
from sam3_lora.data.vision_features import FeatureFiles, SplitFeatures, identity_of

ROOT = Path(__file__).resolve().parents[2]
USAGE = namedtuple("USAGE", "total used free")


@pytest.fixture
def files(tmp_path):
    return FeatureFiles("a model", (4, 8), torch.bfloat16, limit_bytes=10**6, folder=tmp_path / "vision")


def names(files: FeatureFiles) -> set[str]:
    return {path.name for path in files.folder.iterdir()}


def test_features_come_back_as_they_were(files):
    path, features = files.path(b"image", (1,)), torch.randn(4, 8).to(torch.bfloat16)
    assert files.load(path) is None and not files.is_intact(path)
    files.save(path, features)
    assert files.is_intact(path)
    assert torch.equal(files.load(path), features)
    assert path.stat().st_size == files.file_bytes


def test_every_part_of_the_key_gives_another_file(files):
    others = (
        files.path(b"image", ()),
        files.path(b"image", (0,)),
        files.path(b"image", (0, 1)),
        files.path(b"other", (1,)),
        replace(files, source="another model").path(b"image", (1,)),
        replace(files, shape=(4, 9)).path(b"image", (1,)),
        replace(files, dtype=torch.float32).path(b"image", (1,)),
    )
    assert files.path(b"image", (1,)) == files.path(b"image", (1,))
    assert len({files.path(b"image", (1,)), *others}) == 8


def test_another_version_makes_files_stale(files, monkeypatch):
    before = files.path(b"image", ())
    monkeypatch.setattr(vision_features, "_VERSION", vision_features._VERSION + 1)
    assert files.path(b"image", ()) != before


def test_files_of_others_are_read_although_their_time_of_use_cannot_be_set(files, monkeypatch, caplog):
    path, features = files.path(b"image", ()), torch.ones(4, 8, dtype=torch.bfloat16)
    files.save(path, features)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert files.is_intact(path)
    assert torch.equal(files.load(path), features)
    assert not caplog.records


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", bytes.swapcase])
def test_a_damaged_file_is_no_file(files, damage):
    path = files.path(b"image", ())
    files.save(path, torch.zeros(4, 8))
    path.write_bytes(damage(path.read_bytes()))
    assert files.load(path) is None
    assert not files.is_intact(path)
    assert not path.exists()


def test_a_file_with_another_number_is_no_file(files):
    path = files.path(b"image", ())
    files.save(path, torch.zeros(4, 8))
    data = bytearray(path.read_bytes())
    data[-10] ^= 1  # of the numbers: size and header are as they were
    path.write_bytes(bytes(data))
    assert files.is_intact(path) and files.load(path) is None
    assert not path.exists(), "the next run computes it again"


def test_the_least_recently_used_make_room(files):
    each = files.file_bytes
    files = replace(files, limit_bytes=3 * each)
    paths = [files.path(bytes([number]), ()) for number in range(4)]
    for age, path in zip((300, 200, 100), paths[:3], strict=True):
        files.save(path, torch.zeros(4, 8))
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert files.room(each, evict=False) == 0 and len(names(files)) == 3
    files.load(paths[0])  # it is in use again
    assert files.room(each, keep=[paths[2]]) == each
    assert names(files) == {paths[0].name, paths[2].name}
    assert files.room(9 * each, keep=paths) == each, "what is kept leaves room for one"


def test_a_full_disk_leaves_no_room(files, monkeypatch):
    monkeypatch.setattr(vision_features.shutil, "disk_usage", lambda _: USAGE(10**12, 10**12, 2 * 2**30 + 100))
    assert files.room(10**6) == 100
    monkeypatch.setattr(vision_features.shutil, "disk_usage", lambda _: USAGE(10**12, 10**12, 2**30))
    assert files.room(10**6) == 0


def test_a_folder_that_cannot_be_made_leaves_no_room(files, tmp_path):
    (tmp_path / "file").write_text("")
    assert replace(files, folder=tmp_path / "file" / "vision").room(100) == 0


def test_two_processes_write_the_same_file(files):
    code = (
        "import sys, torch; from pathlib import Path; from sam3_lora.data.vision_features import FeatureFiles\n"
        "files = FeatureFiles('a model', (4, 8), torch.bfloat16, 10**6, Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "for _ in range(500):\n"
        "    files.save(files.path(b'image', ()), torch.ones(4, 8))\n"
        "    assert torch.equal(files.load(files.path(b'image', ())), torch.ones(4, 8, dtype=torch.bfloat16))\n"
    )
    path, ones = files.path(b"image", ()), torch.ones(4, 8, dtype=torch.bfloat16)
    command = [sys.executable, "-c", code, str(files.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\n"
        while other.poll() is None:
            files.save(path, ones)
            assert torch.equal(files.load(path), ones)
    assert other.returncode == 0
    assert names(files) == {path.name}, "nothing is left beside it"


def test_an_image_is_its_content_and_its_rotation(tmp_path):
    for name, content in (("a.png", b"one"), ("copy.png", b"one"), ("b.png", b"two")):
        (tmp_path / name).write_bytes(content)
    hashes = ContentHashes(tmp_path / "hashes")

    def identity(name: str, width: int = 4) -> bytes:
        return identity_of(ImageRecord(1, name, tmp_path / name, width, 3, ()), hashes)

    assert identity("a.png") == identity("copy.png")
    assert len({identity("a.png"), identity("b.png"), identity("a.png", width=3)}) == 3


def test_an_image_without_a_name_has_no_file(files):
    features = SplitFeatures(files, 2)
    assert features.path(1, ()) is None
    features.identify(1, bytes(range(16)))
    assert features.path(1, ()) == files.path(bytes(range(16)), ()) and features.path(0, ()) is None
    features.identify(1, b"")
    assert features.path(1, ()) is None
