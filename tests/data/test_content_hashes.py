"""Hashes of files' contents: files are read once, changed ones again."""

import os

import pytest

from sam3_lora.data import content_hashes
from sam3_lora.data.content_hashes import ContentHashes


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    image, kept = tmp_path / "a.png", tmp_path / "cache" / "hashes.msgpack"
    image.write_bytes(b"first")
    (tmp_path / "copy.png").write_bytes(b"first")
    hashes = ContentHashes(kept)
    first = hashes.of(image)
    assert hashes.of(tmp_path / "copy.png") == first
    hashes.save()

    before = image.stat()
    with monkeypatch.context() as patch:
        patch.setattr(content_hashes.hashlib, "file_digest", lambda *_: 1 / 0)  # nothing is read
        assert ContentHashes(kept).of(image) == first
    image.write_bytes(b"other")  # of the same size
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert ContentHashes(kept).of(image) != first


def test_damaged_hashes_are_made_anew_and_those_of_another_process_kept(tmp_path):
    image, other, kept = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "hashes.msgpack"
    image.write_bytes(b"a")
    other.write_bytes(b"b")
    kept.write_bytes(b"\xff damaged")
    first, second = ContentHashes(kept), ContentHashes(kept)
    first.of(image)
    second.of(other)
    first.save()
    second.save()
    assert len(ContentHashes(kept)._known) == 2


def test_hashes_not_asked_for_in_months_are_forgotten(tmp_path, monkeypatch):
    image, kept = tmp_path / "a.png", tmp_path / "hashes.msgpack"
    image.write_bytes(b"a")
    hashes = ContentHashes(kept)
    hashes.of(image)
    hashes.save()
    later = ContentHashes(kept)
    later._today += 61
    (tmp_path / "b.png").write_bytes(b"b")
    later.of(tmp_path / "b.png")
    later.save()
    assert list(ContentHashes(kept)._known) == [str(tmp_path / "b.png")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="regular"):
        ContentHashes(tmp_path / "hashes.msgpack").of(tmp_path / "pipe.png")
