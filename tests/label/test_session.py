"""A labelling session loses nothing: decisions are on disk at once, in whatever state the process ends."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import image_phrases
from sam3_lora.errors import DataError
from sam3_lora.label import decisions as files
from sam3_lora.label.decisions import Decision, LabelObject
from sam3_lora.label.proposals import Proposals
from sam3_lora.label.session import DECISIONS, Session, SessionSettings, list_sessions
from sam3_lora.masks import encode_rle

SIZE_HW = (40, 60)
PHRASES = ("crack", "pothole")


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(6):
        name = f"sub/{number}.png" if number > 3 else f"{number}.png"
        Image.fromarray(np.full((*SIZE_HW, 3), 40 * number, np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def session(photos, tmp_path):
    opened = Session.create(tmp_path / "sessions", SessionSettings(str(photos), PHRASES, created=1.0))
    yield opened
    opened.close()


def an_object(phrase: str = "crack", left: int = 5) -> LabelObject:
    mask = np.zeros(SIZE_HW, bool)
    mask[10:20, left : left + 12] = True
    return LabelObject(phrase, (left, 10, left + 12, 20), encode_rle(mask), 0.7)


def proposals(image: str, score: float, embedding: tuple[float, ...] = (1.0, 0.0)) -> Proposals:
    return Proposals(image, SIZE_HW, (LabelObject("crack", (1, 1, 5, 5), None, score),), embedding)


def test_what_is_decided_is_a_dataset(session):
    session.decide(Decision("0.png", SIZE_HW, (an_object(), an_object("pothole", 30)), seconds=4))
    session.decide(Decision("sub/4.png", SIZE_HW, (an_object("pothole"),), seconds=8))
    session.decide(Decision("1.png", SIZE_HW))
    session.decide(Decision("2.png", SIZE_HW, (an_object("joint"),), incomplete=True))
    folder = session.write_dataset()
    COCO(str(folder / "train" / "_annotations.coco.json"))
    dataset = open_dataset(folder)
    records = {record.file_name: record for record in dataset.split("train").images}
    assert {name: len(one.annotations) for name, one in records.items()} == {
        "0.png": 2,
        "1.png": 0,
        "2.png": 1,
        "sub/4.png": 1,
    }
    assert not dataset.split("train").images.missing.any()
    known = {name: image_phrases(record, dataset.categories) for name, record in records.items()}
    assert known["1.png"].lacks("crack") and known["1.png"].lacks("pothole"), "a checked negative"
    assert known["sub/4.png"].lacks("crack") and not known["sub/4.png"].lacks("pothole")
    assert not known["2.png"].lacks("crack"), "nothing is known of an incomplete image"
    assert records["0.png"].annotations[0].bbox_xywh == (5, 10, 12, 10) and session.seconds_per_image == 6


def test_a_dataset_of_what_is_new_and_what_a_reviewed_one_said(session):
    crowd = LabelObject("crack", (0, 0, 20, 20), an_object().rle, None, "annotation", iscrowd=True)
    session.decide(Decision("0.png", SIZE_HW, (an_object(), crowd)))
    assert session.untrained() == ["0.png"]
    session.mark_trained()
    reviewed = Decision("1.png", SIZE_HW, (an_object("boat", 30),), absent=("house",), partly=("tree",))
    session.decide(reviewed)
    assert session.untrained() == ["1.png"]
    before = (session.root / "1.png").read_bytes()
    folder = session.write_dataset(["1.png"])
    assert folder != session.write_dataset() and (session.root / "1.png").read_bytes() == before
    (record,) = open_dataset(folder).split("train").images
    assert record.absent_categories == {"crack", "pothole", "house"} and record.incomplete_categories == {"tree"}
    (again, _) = open_dataset(session.write_dataset()).split("train").images
    assert [one.iscrowd for one in again.annotations] == [False, True]
    (session.root / "1.png").unlink()
    with pytest.raises(DataError, match="is gone"):
        session.write_dataset(["1.png"])


def test_tabs_do_not_get_the_same_image(session):
    first, second = session.next_image("a", "name"), session.next_image("b", "name")
    assert first == "0.png" and second == "1.png" and session.next_image("a", "name") == first
    session.decide(Decision(first, SIZE_HW))
    assert session.next_image("b", "name") == second and session.next_image("a", "name") == "2.png"
    for name in session.images:
        session.decide(Decision(name, SIZE_HW))
    assert session.next_image("a", "name") is None


def test_what_cannot_be_read_is_put_aside(session):
    session.use_model("m")
    session.add_proposals("m", Proposals("0.png", (1, 1), problem="It is no image."))
    assert session.next_image("a", "name") == "1.png" and "0.png" not in session.not_predicted()
    assert session.unreadable == {"0.png": "It is no image."}


def test_the_order(session):
    session.use_model("m")
    for name, score in (("0.png", 0.95), ("1.png", 0.52), ("2.png", 0.3)):
        session.add_proposals("m", proposals(name, score, (1.0, 0.0) if name == "2.png" else (0.0, 1.0)))
    assert session.next_image("a", "uncertain") == "1.png" and session.next_image("a", "name") == "0.png"
    session.decide(Decision("1.png", SIZE_HW))
    assert session.next_image("a", "uncertain") == "2.png"
    assert session.next_image("a", "similar", after="1.png") == "0.png"
    assert session.not_predicted() == ["3.png", "sub/4.png", "sub/5.png"]
    session.add_proposals("other", proposals("3.png", 0.5))
    assert session.proposals("3.png") is None, "of another model"
    session.use_model("other")
    assert session.proposals("3.png") is not None and session.proposals("0.png") is None
    session.use_model("m")
    assert session.proposals("0.png") == proposals("0.png", 0.95, (0.0, 1.0))


def test_a_second_process_is_told(session):
    code = f"""
        from sam3_lora.label.session import Session
        from pathlib import Path
        from sam3_lora.errors import DataError
        try:
            Session(Path({str(session.folder)!r}))
        except DataError as error:
            print("refused", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")


def test_kill_loses_nothing_that_was_decided(photos, tmp_path):
    code = f"""
        import os, signal
        from pathlib import Path
        from sam3_lora.label.session import Session, SessionSettings
        from sam3_lora.label.decisions import Decision
        session = Session.create(Path({str(tmp_path / "killed")!r}), SessionSettings({str(photos)!r}, ("crack",)))
        for name in session.images[:3]:
            session.decide(Decision(name, {SIZE_HW!r}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    ((folder, _, decided),) = list_sessions(tmp_path / "killed")
    again = Session(folder)
    assert decided == 3 and len(again.decisions) == 3 and again.next_image("a", "name") == "3.png"
    again.close()


def test_a_full_disk_and_damaged_files(session, monkeypatch):
    session.decide(Decision("0.png", SIZE_HW))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "atomic_write", full)
    with pytest.raises(DataError, match="No space"):
        session.decide(Decision("1.png", SIZE_HW))
    monkeypatch.undo()
    assert list(session.decisions) == ["0.png"]
    files.file_of(session.folder / DECISIONS, "2.png").write_text("{")
    session.close()
    again = Session(session.folder)
    assert list(again.decisions) == ["0.png"] and len(again.problems) == 1
    again.close()


def test_what_is_no_session_is_one_sentence(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    for make in (
        lambda: Session(tmp_path),
        lambda: Session.create(tmp_path / "s", SessionSettings(str(tmp_path / "empty"), PHRASES)),
        lambda: Session.create(tmp_path / "s", SessionSettings(str(tmp_path / "gone"), PHRASES)),
        lambda: Session.create(photos / "0.png", SessionSettings(str(photos), PHRASES)),
    ):
        with pytest.raises(DataError) as error:
            make()
        assert "\n" not in str(error.value)
    assert list_sessions(tmp_path / "s") == list_sessions(tmp_path / "nowhere") == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=40), st.booleans()), max_size=5, unique_by=lambda one: one[0]))
def test_any_name_has_a_file_of_its_own(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("decisions")
    for name, incomplete in names:
        name = name.encode("utf-8", "replace").decode()
        files.write(folder, Decision(name, SIZE_HW, (an_object(),), incomplete))
    found, problems = files.read_all(folder)
    assert not problems and {name.encode("utf-8", "replace").decode() for name, _ in names} == set(found)
    json.dumps(files.coco(found, PHRASES))
    assert all(path.stat().st_size for path in folder.iterdir()) and os.listdir(folder) is not None
