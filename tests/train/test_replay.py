"""Replay: the base model is asked once, and each step holds the adapter to its answers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from sam3_lora.config import RunConfig
from sam3_lora.errors import ConfigError, DataError
from sam3_lora.runs.run import Run
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.loop import REPLAY_FOLDER, fit
from sam3_lora.train.replay.answers import read_answers
from sam3_lora.train.replay.replay import WORDS, Replay, replay_words
from sam3_lora.train.setup import Setup, prepare
from tests.factories import write_dataset
from tests.train.helpers import request_after, steps, totals, train

REPLAYED = {"replay.source": "own", "replay.images_per_step": 2, "replay.phrases_per_image": 3}
# Presence alone may differ at the beginning, so the peak learning rate is reached at once.
QUICK = {"training.learning_rate": 0.01, "training.warmup_steps": 0, "training.max_steps": 3, "data.valid_split": ""}


@pytest.fixture
def config(config):
    return config.with_settings(REPLAYED)


def ready(config: RunConfig, folder) -> tuple[Setup, Replay]:
    """A run before its first step, the base model asked."""
    setup = prepare(config, make_accelerator(config.training), log=lambda line: None)
    assert all(at.stage == "asking" for at in setup.preparations(folder, lambda line: None, lambda image: None))
    replay = setup.data.replay
    assert replay is not None
    return setup, replay


def test_the_first_step_starts_from_agreement_and_later_ones_have_a_loss_of_their_own(config, only_steps):
    run = train(config, training__max_steps=3, training__learning_rate=0.01, training__warmup_steps=0)
    first, *later = steps(run)
    # An adapter that is new changes nothing: what is left is the rounding to half precision.
    assert all(row["replay_total"] > 5 * first["replay_total"] for row in later)
    for row in steps(run):
        assert set(row["replay"]) == set(row["replay_raw"]) and not set(row["replay"]) & set(row["terms"])
        assert sum(row["replay"].values()) == pytest.approx(row["replay_total"], rel=1e-4, abs=1e-6)
        assert sum(row["terms"].values()) == pytest.approx(row["total"], rel=1e-4), "the total is SAM 3's own loss"
    assert not (run.folder / REPLAY_FOLDER).exists(), "a finished run needs the answers no more"


@pytest.fixture(scope="module")
def quick_totals(quick_config, tmp_path_factory):
    runs = {"output.runs": str(tmp_path_factory.mktemp("runs"))}
    return totals(train(quick_config.with_settings({**REPLAYED, **QUICK, **runs})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replay.source", "none"),
        ("replay.images_per_step", 1),
        ("replay.phrases_per_image", 6),
        ("replay.weight", 50.0),
        ("replay.phrases", ["manhole cover", "brick"]),
    ],
)
def test_each_setting_has_an_effect(config, quick_totals, only_steps, name, value):
    assert totals(train(config.with_settings({**QUICK, name: value}))) != quick_totals


def test_a_stopped_and_resumed_run_equals_an_unbroken_one(config, monkeypatch, only_steps):
    config = config.with_settings({"training.max_steps": 6})
    whole, run = train(config), Run.create(config)
    with monkeypatch.context() as patch:
        request_after(patch, 3, "stop")
        assert fit(run).state == "stopped"
    files = sorted((run.folder / REPLAY_FOLDER).iterdir())
    times = [path.stat().st_mtime_ns for path in files]
    files[0].write_bytes(files[0].read_bytes()[:-7])
    assert fit(run, resume=True).state == "finished"
    assert totals(run) == pytest.approx(totals(whole), rel=1e-6)
    replayed = [[row["replay_total"] for row in steps(each)] for each in (run, whole)]
    assert replayed[0] == pytest.approx(replayed[1], rel=1e-6)
    assert len(files) == len(times) == 6


def test_answers_are_kept_and_those_that_are_damaged_are_asked_again(config, tmp_path):
    ready(config, tmp_path / "answers")
    files = sorted((tmp_path / "answers").iterdir())
    assert len(files) == 6
    answers = {path: path.read_bytes() for path in files}
    files[0].write_bytes(answers[files[0]][:-1])
    files[1].write_bytes(b"")
    files[2].write_bytes(answers[files[2]][:40] + b"x" + answers[files[2]][41:])
    files[3].unlink()
    assert [read_answers(path) is None for path in files] == [True] * 4 + [False] * 2
    untouched = files[5].stat().st_mtime_ns
    ready(config, tmp_path / "answers")
    assert {path: path.read_bytes() for path in files} == answers
    assert files[5].stat().st_mtime_ns == untouched


def test_the_base_is_asked_and_not_the_adapter(config, tmp_path):
    setup, _ = ready(config, tmp_path / "base")
    with torch.no_grad():
        for parameter in setup.model.parameters:
            parameter.add_(0.5)
    for _ in setup.preparations(tmp_path / "adapted", lambda line: None, lambda image: None):
        pass
    for path in (tmp_path / "base").iterdir():
        assert path.read_bytes() == (tmp_path / "adapted" / path.name).read_bytes()


def test_images_are_replayed_in_turn_unflipped_and_shared_between_processes(config, tmp_path):
    config = config.with_settings({"augmentation.flip": "both", "training.batch_size": 1})
    setup, replay = ready(config, tmp_path / "answers")
    names = [[image.file_name for batch in replay.group(step) for image in batch.images] for step in (1, 2, 3)]
    assert [len(batch.images) for batch in replay.group(1)] == [1, 1], "no more memory than other batches need"
    assert len({name for each in names for name in each}) == 6, "each image once before one comes again"
    for batch in replay.group(2):
        index = next(i for i in range(6) if setup.data.samples.record(i).file_name == batch.images[0].file_name)
        assert torch.equal(batch.pixel_values[0], setup.data.samples.pixel_values(index))
    shares = []
    for rank in range(2):
        one = copy.copy(replay)
        one._rank, one._world, one._next = rank, 2, None
        shares.append([image.file_name for batch in one.group(1) for image in batch.images])
    assert len(set(shares[0]) | set(shares[1])) == 4


def test_each_step_replays_what_it_would_in_any_other_process(config, tmp_path):
    _, replay = ready(config, tmp_path / "answers")
    _, other = ready(config, tmp_path / "answers")
    for step in (1, 2, 9):
        (ours, *_), (theirs, *_) = replay.group(step), other.group(step)
        assert ours.phrases == theirs.phrases
        assert torch.equal(ours.soft.logits, theirs.soft.logits)
        assert ours.soft.logits.shape[1] == len(ours.phrases) == 6
        assert len(ours.soft.masks) == len(ours.soft.phrase_index) == len(ours.soft.query_index)


def test_a_phrase_keeps_its_answer_when_it_is_chosen(config, tmp_path):
    ready(config, tmp_path / "answers")
    answers = read_answers(next((tmp_path / "answers").iterdir()))
    assert answers is not None and answers.soft.logits.shape[1] == WORDS
    chosen = answers.of([5, 2])
    assert torch.equal(chosen.logits[:, 0], answers.soft.logits[:, 5])
    assert torch.equal(chosen.boxes[:, 1], answers.soft.boxes[:, 2])
    for row, (place, query) in enumerate(zip(chosen.phrase_index.tolist(), chosen.query_index.tolist(), strict=True)):
        pairs = zip(answers.soft.phrase_index.tolist(), answers.soft.query_index.tolist(), strict=True)
        at = list(pairs).index(([5, 2][place], query))
        assert torch.equal(chosen.masks[row], answers.soft.masks[at])


def test_no_phrase_of_the_dataset_is_replayed_in_whatever_wording(config):
    replay = config.replay.model_copy(update={"phrases": ["Potholes", "Manhole Cover"]})
    own, known, foreign = replay_words(replay, "facebook/sam3", ["pothole", "car"], ["Lamps"])
    assert own == ["manhole cover"] and "person" in known and "giraffe" in foreign
    assert not {"car", "toy car", "lamp", "manhole cover"} & {*known, *foreign}


def test_an_image_is_asked_the_user_s_phrases_and_mostly_words_that_the_base_may_find(config, tmp_path):
    _, replay = ready(config.with_settings({"replay.phrases": ["manhole cover", "brick"]}), tmp_path / "answers")
    foreign = set(replay._words.foreign)
    for index in range(6):
        words = replay.words_of(index)
        assert len(words) == len(set(words)) == WORDS and {"manhole cover", "brick"} < set(words)
        assert sum(word in foreign for word in words) == 8
    assert replay.words_of(0) != replay.words_of(1)


def test_photographs_of_a_folder_are_replayed_and_broken_ones_are_left_out(config, tmp_path, only_steps):
    photos = write_dataset(tmp_path / "photos", images=4, empty_images=0)
    paths = sorted(photos.rglob("*.png"))
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    run = train(config, replay__source="folder", replay__folder=str(photos))
    noted = [row["images"] for row in run.metrics()[0] if row.get("about") == "image-left-out"]
    assert noted == [[paths[0].name]]
    assert f"{len(paths) - 1} images" in run.log_tail() and all("replay" in row for row in steps(run))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"replay.folder": ""}, ConfigError),
        ({"replay.folder": "nowhere/at/all"}, DataError),
    ],
)
def test_a_folder_without_photographs_is_an_error_with_its_fix(config, settings, error):
    run = Run.create(config.with_settings({"replay.source": "folder", **settings}))
    with pytest.raises(error) as raised:
        fit(run)
    assert raised.value.fix and run.status().state == "failed"


def test_where_no_photograph_can_be_loaded_the_run_says_so(config, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    run = Run.create(config.with_settings({"replay.source": "folder", "replay.folder": str(tmp_path / "photos")}))
    with pytest.raises(DataError, match="replay"):
        fit(run)


def test_with_a_frozen_vision_encoder_photographs_are_in_the_vision_cache_too(config, tmp_path, only_steps):
    photos = write_dataset(tmp_path / "photos", images=3, empty_images=0)
    frozen = {"lora.components": ["detr_decoder", "scoring"], "replay.source": "folder", "replay.folder": str(photos)}
    cached = train(config.with_settings(frozen))
    plain = train(config.with_settings({**frozen, "data.vision_cache_gb": 0}))
    assert totals(cached) == pytest.approx(totals(plain), rel=1e-6)
    assert "vision" in cached.log_tail()


def test_a_run_of_an_earlier_version_goes_on_as_it_began(config):
    run = Run.create(config.with_settings({"data.min_foreign": 1}))
    path = run.folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    start = text.index("replay:")
    rest = text[start:].split("\n\n", 1)[1]
    path.write_text((text[:start] + rest).replace("  min_foreign: 1\n", ""), encoding="utf-8")
    assert (run.config.replay.source, run.config.data.min_foreign) == ("none", 0)
    assert RunConfig.load(path).data.min_foreign == 1


def test_the_draws_do_not_depend_on_each_other():
    """A seed's images, phrases and order are streams of their own."""
    streams = [np.random.default_rng((0, stream)).integers(0, 1000, 8).tolist() for stream in range(4)]
    assert len({tuple(stream) for stream in streams}) == 4
