"""Repair of refusal: the presence head alone is trained, measured as Evaluate measures, and kept beside the adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import load_image
from sam3_lora.data.prompts import image_phrases
from sam3_lora.errors import Cancelled, DataError, ModelError, RunError, Sam3LoraError
from sam3_lora.evaluate import predictions
from sam3_lora.evaluate.metrics import MetricCalculator
from sam3_lora.evaluate.predictions import asked_of, predict_image
from sam3_lora.markdown import with_section, without_section
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import adapter_base, taught_phrases
from sam3_lora.model.base import load_base
from sam3_lora.model.decoder import presence_logits
from sam3_lora.predict.predictor import Predictor
from sam3_lora.runs.lock import hold
from sam3_lora.runs.run import Run
from sam3_lora.runs.status import Status, write_status
from sam3_lora.structures import Detections
from sam3_lora.train import loop
from sam3_lora.train.refusal import head, measure, phrases, repair, report
from sam3_lora.train.refusal.pairs import Pairs, pairs_of
from sam3_lora.train.refusal.phrases import choose_words, prompts_of
from sam3_lora.train.refusal.repair import RepairRequest, repair_refusal
from sam3_lora.train.refusal.report import Outcome, Refusal, RepairReport
from sam3_lora.train.splits import splits_of
from sam3_lora.words import foreign_words
from tests.cli.helpers import IMAGE, call
from tests.train.helpers import train

WEIGHTS = "adapter_model.safetensors"
STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def _little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MEASURED_WORDS", "FOREIGN", "KNOWN"):
            patch.setattr(phrases, name, 3)
        patch.setattr(repair, "MAX_IMAGES", 3)
        patch.setattr(loop, "verify_reload", lambda setup, folder: "")
        patch.setattr(loop.SampleWriter, "write", lambda self, step, base=False: None)
        yield


@pytest.fixture(scope="module")
def trained(quick_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of one step; tests change copies of it."""
    return train(quick_config, output__runs=str(tmp_path_factory.mktemp("runs")), training__max_steps=1)


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / trained.name
    shutil.copytree(trained.folder, folder)
    return Run.open(folder)


@pytest.fixture(scope="module")
def repaired(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, RepairReport]:
    """A copy of the run, repaired, and the report."""
    card = trained.folder / "adapters" / "best" / "README.md"
    card.write_text(with_section(card.read_text(), "Evaluation", "of this adapter", before="Settings"))
    folder = tmp_path_factory.mktemp("repaired") / trained.name
    shutil.copytree(trained.folder, folder)
    made = repair_refusal(RepairRequest(folder / "adapters" / "best", STEPS, "cpu"))
    return Run.open(folder), made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_the_presence_head_changes_and_the_first_adapter_not_by_a_byte(
    trained: Run, repaired: tuple[Run, RepairReport]
) -> None:
    run, _ = repaired
    before, after = contents(trained.folder), contents(run.folder)
    new = {name for name in after if name.startswith("adapters/refusal/")}
    assert {name: after[name] for name in after.keys() - new} == before
    first, second = (load_file(run.folder / "adapters" / kind / WEIGHTS) for kind in ("best", "refusal"))
    assert all(torch.equal(second[name], weight) for name, weight in first.items())
    added = {name: weight for name, weight in second.items() if name not in first}
    assert len(added) == 6 and all(".presence_head." in name for name in added)
    assert all(weight.abs().sum() > 0 for weight in added.values())


def test_what_belongs_to_the_adapter_comes_along_and_it_loads_like_any_other(
    repaired: tuple[Run, RepairReport],
) -> None:
    run, made = repaired
    best, new = (run.adapters()[kind] for kind in ("best", "refusal"))
    assert taught_phrases.read(new) == taught_phrases.read(best) != None  # noqa: E711
    assert adapter_base.read(new) == adapter_base.read(best)
    settings = [json.loads((folder / "adapter_config.json").read_text()) for folder in (best, new)]
    assert settings[0]["base_model_name_or_path"] == settings[1]["base_model_name_or_path"]
    card, first = (new / "README.md").read_text(), (best / "README.md").read_text()
    assert without_section(card, "Repaired refusal") == without_section(first, "Evaluation") and "| cgF1 |" in card
    assert report.read(new) == made
    image = load_image(splits_of(run, print).train.images[0])
    one, other = (_detections(run, folder, image, ["crack", "walrus"]) for folder in (best, new))
    assert torch.equal(one.logits, other.logits) and torch.equal(one.boxes, other.boxes)
    assert one.presence is not None and other.presence is not None
    assert not torch.equal(one.presence, other.presence)


def _detections(run: Run, adapter: Path, image: np.ndarray, asked: list[str]) -> Detections:
    predictor = Predictor.load(run.config.model.base, adapter, "cpu")
    predictor.set_image(image)
    return next(predictor.prompt_in_chunks(asked, 1.0)).detections


def test_the_same_seed_repairs_alike_to_the_byte_and_another_does_not(
    run: Run, repaired: tuple[Run, RepairReport]
) -> None:
    first = (repaired[0].folder / "adapters" / "refusal" / WEIGHTS).read_bytes()
    torch.manual_seed(123)
    repair_refusal(RepairRequest(run.folder, STEPS, "cpu"))  # the run's best
    assert (run.folder / "adapters" / "refusal" / WEIGHTS).read_bytes() == first
    run._write_config(run.config.with_settings({"training.seed": 1}))
    repair_refusal(RepairRequest(run.folder, STEPS, "cpu"))
    assert (run.folder / "adapters" / "refusal" / WEIGHTS).read_bytes() != first


def test_a_head_that_the_adapter_has_already_is_trained_on(quick_config: RunConfig, tmp_path: Path) -> None:
    components = ["detr_decoder", "presence_head"]
    run = train(
        quick_config,
        output__runs=str(tmp_path),
        lora__components=components,
        training__max_steps=1,
        data__valid_split="",
        output__sample_images=[],
    )
    made = repair_refusal(RepairRequest(run.folder, STEPS, "cpu"))
    first, second = (load_file(run.folder / "adapters" / kind / WEIGHTS) for kind in ("last", "refusal"))
    assert first.keys() == second.keys()
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed and all(".presence_head." in name for name in changed)
    assert (made.outcome, made.before) == (Outcome.NOT_MEASURED, None)
    assert made.source == "last" and "not measured" in report.sentence(made)


def test_the_pairs_give_the_presence_of_the_whole_model_and_the_targets_of_the_annotations(run: Run) -> None:
    splits, config = splits_of(run, print), run.config
    _, predictor = repair._load(
        config, run.folder / "adapters" / "best", RepairRequest(run.folder), torch.device("cpu")
    )
    words = choose_words(config, splits.categories)
    empty = 0
    for image in splits.train.images:
        known = image_phrases(image, splits.categories)
        prompts = prompts_of(image, splits.categories, config, words, np.random.default_rng(0))
        assert set(prompts.present) == set(known.objects)
        assert all(known.lacks(phrase) for phrase in (*prompts.absent, *prompts.foreign))
        assert set(prompts.foreign).isdisjoint(words.measured) and prompts.known
        empty += not prompts.present
        predictor.set_image(load_image(image))
        pairs = pairs_of(predictor, prompts)
        assert pairs is not None
        with torch.no_grad():
            ours = presence_logits(predictor.detector.base.detr_decoder, pairs.tokens)
        order = (*prompts.present, *prompts.absent, *prompts.foreign, *prompts.known)
        whole = next(predictor.prompt_in_chunks(order, 1.0)).detections.presence
        torch.testing.assert_close(ours.T, whole, rtol=0, atol=1e-6)
        predictor.strength = 0.0
        base = next(predictor.prompt_in_chunks(prompts.known, 1.0)).detections.presence
        assert base is not None
        predictor.strength = 1.0
        torch.testing.assert_close(pairs.wanted[pairs.kind == 3].T, base.sigmoid(), rtol=0, atol=1e-6)
        assert (pairs.wanted[pairs.kind == 0] == 1).all() and len(pairs.wanted[pairs.kind == 0]) == len(prompts.present)
        assert (pairs.wanted[(pairs.kind == 1) | (pairs.kind == 2)] == 0).all()
    assert empty  # an image without objects was among them


def test_words_are_split_by_the_seed_and_refused_ones_are_trained(run: Run) -> None:
    config, categories = run.config, splits_of(run, print).categories
    refused = sorted(foreign_words())[:50]
    by_seed = [
        choose_words(
            config.with_settings({"training.seed": seed, "data.refused_phrases": refused}), categories
        ).measured
        for seed in (0, 0, 1)
    ]
    assert by_seed[0] == by_seed[1] != by_seed[2]
    assert all(set(words).isdisjoint(refused) and len(words) == 11 for words in by_seed)


def test_the_head_learns_what_is_wanted(run: Run) -> None:
    _, predictor = repair._load(
        run.config, run.folder / "adapters" / "best", RepairRequest(run.folder), torch.device("cpu")
    )
    model = predictor.detector.base
    shape: Any = model.config.detr_decoder_config
    layers, width = shape.num_layers, shape.hidden_size
    kind = torch.arange(4).repeat_interleave(20)
    wanted = torch.tensor([1.0, 0.0, 0.0, 0.3])[kind][:, None].expand(-1, layers)
    tokens = torch.randn(4, 1, width)[kind] + 0.1 * torch.randn(80, layers, width)
    pairs = Pairs(tokens, wanted, kind)
    before = head.weights_of(model)
    others = {name: weight.clone() for name, weight in model.named_parameters() if ".presence_head." not in name}
    head.train_head(predictor, pairs, 200, 0)
    with torch.no_grad():
        found = presence_logits(model.detr_decoder, tokens).sigmoid()
    assert (found - wanted).abs().max() < 0.2
    after = head.weights_of(model)
    with head.with_weights(model, before):
        assert all(torch.equal(weight, before[name]) for name, weight in head.weights_of(model).items())
    assert all(torch.equal(weight, after[name]) for name, weight in head.weights_of(model).items())
    assert all(torch.equal(dict(model.named_parameters())[name], weight) for name, weight in others.items())


def test_before_and_after_are_the_numbers_of_evaluate(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing that is trained so briefly scores 0.5.
    monkeypatch.setattr(predictions, "SCORE_THRESHOLD", 0.12)
    monkeypatch.setattr(measure, "SCORE_THRESHOLD", 0.12)
    made = repair_refusal(RepairRequest(run.folder, 40, "cpu"))
    config, splits = run.config, splits_of(run, print)
    assert splits.valid is not None and made.before is not None and made.after is not None
    valid, words = splits.valid, choose_words(config, splits.categories)
    groups = measure.groups_of(valid, {}, config.model.base, (), words.measured)
    images = repair._some(valid, config, config.training.seed)
    for kind, ours in (("best", made.before), ("refusal", made.after)):
        predictor = Predictor.load(config.model.base, run.folder / "adapters" / kind, "cpu")
        theirs = []
        for image in images:
            asked = asked_of(image, groups.categories, {}, groups.extra, (), valid.prompt_categories)
            theirs.append(predict_image(predictor, image, asked, load_image(image))[0])
        metrics = MetricCalculator(theirs, groups).summed_metrics(np.ones((1, len(images))))
        assert ours.f1_50 == pytest.approx(metrics["f1_50"][0], abs=1e-9)
        assert ours.cgf1 == pytest.approx(metrics["cgf1"][0], abs=1e-9)
        assert ours.firing == pytest.approx(metrics["false_firing"][0], abs=1e-9)
    assert len({0.0, made.before.firing, made.after.firing, 1.0}) == 4  # the comparison is not of nothing


def test_an_outcome_follows_from_the_numbers() -> None:
    def made(**after: object) -> RepairReport:
        before = Refusal(f1_50=0.6, cgf1=0.5, absent=(50, 10), foreign=(100, 20), kept=(10, 8))
        changed = Refusal(**{**{name: getattr(before, name) for name in before.__struct_fields__}, **after})
        return RepairReport(
            made="",
            source="best",
            seed=0,
            steps=1,
            seconds=0,
            images=1,
            of_images=1,
            pairs=9,
            before=before,
            after=changed,
        )

    assert made(foreign=(100, 2)).outcome is Outcome.REPAIRED
    assert made(foreign=(100, 2), f1_50=None).outcome is Outcome.REPAIRED
    assert made(foreign=(100, 2), kept=(10, 7)).losses == ["kept"]
    worse = made(foreign=(100, 2), f1_50=0.5, cgf1=0.4)
    assert worse.outcome is Outcome.AT_A_COST and worse.losses == ["F1", "cgF1"]
    assert made().outcome is Outcome.NO_GAIN
    assert made(absent=(50, 12)).outcome is Outcome.NO_GAIN
    assert len({report.sentence(one) for one in (worse, made(), made(foreign=(100, 2)))}) == 3


@pytest.mark.parametrize("share", [0.2, 0.52, 0.7])
def test_cancelled_it_leaves_nothing(run: Run, share: float) -> None:
    before = contents(run.folder)

    def progress(done: float, what: str) -> None:
        if done >= share:
            raise Cancelled

    with pytest.raises(Cancelled):
        repair_refusal(RepairRequest(run.folder, STEPS, "cpu"), progress)
    assert contents(run.folder) == before and not (run.folder / "adapters" / "refusal").exists()


def test_what_cannot_be_repaired_is_told_in_one_sentence(run: Run, tmp_path: Path) -> None:
    before = contents(run.folder)

    def refused(kind: type[Sam3LoraError], adapter: Path) -> str:
        with pytest.raises(kind) as raised:
            repair_refusal(RepairRequest(adapter, STEPS, "cpu"))
        return str(raised.value)

    assert "none at" in refused(ModelError, tmp_path / "nowhere")
    shutil.copytree(run.folder / "adapters" / "best", tmp_path / "loose")
    assert "in none" in refused(RunError, tmp_path / "loose")
    shutil.copytree(run.folder / "adapters" / "best", run.folder / "adapters" / "refusal")
    assert "repaired already" in refused(RunError, run.folder / "adapters" / "refusal")
    shutil.rmtree(run.folder / "adapters" / "refusal")
    status = (run.folder / "status.json").read_text()
    (run.folder / "status.json").write_text(status.replace('"finished"', '"running"'))
    with hold(run.folder / ".lock", ""):
        assert "is being trained" in refused(RunError, run.folder)
    (run.folder / "status.json").write_text(status)
    run._write_config(run.config.with_settings({"data.path": str(tmp_path / "gone")}))
    assert "gone" in refused(DataError, run.folder)
    after = contents(run.folder)
    assert {**after, "config.yaml": b""} == {**before, "config.yaml": b""}


def test_a_dataset_that_has_changed_is_refused(run: Run, trained: Run, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(trained.config.data.path, copy)
    run._write_config(run.config.with_settings({"data.path": str(copy)}))
    repair_refusal(RepairRequest(run.folder, 1, "cpu"))  # moved, but the same
    shutil.rmtree(run.folder / "adapters" / "refusal")
    annotations = next(copy.glob("train/*.json"))
    annotations.write_text(annotations.read_text() + " ")
    with pytest.raises(DataError, match="'train' has changed"):
        repair_refusal(RepairRequest(run.folder, 1, "cpu"))
    assert not (run.folder / "adapters" / "refusal").exists()


def test_the_command_repairs_on_the_demo_and_tells_the_numbers(tmp_path: Path) -> None:
    config = RunConfig().with_settings({"output.runs": str(tmp_path), "lora.components": ["detr_decoder"]})
    run = Run.create(config)
    _save_untrained(run)
    result = call("repair-refusal", run.folder, "--steps", 3, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert made["adapter"] == str(run.folder / "adapters" / "refusal")
    assert (made["images"], made["of_images"], made["measured_images"]) == (3, 64, 3)
    assert made["outcome"] == "no gain" and made["before"]["foreign"][0] == 33
    predicted = call("predict", IMAGE, "--prompt", "crack", "--adapter", made["adapter"], "--json")
    assert predicted.exit_code == 0 and "crack" in json.loads(predicted.stdout)["phrases"]
    again = call("repair-refusal", made["adapter"])
    assert isinstance(again.exception, RunError)


def _save_untrained(run: Run) -> None:
    base = load_base("demo")
    lora.save(lora.attach(base.model, run.config.lora), run.folder / "adapters" / "last", "demo", taught=["crack"])
    write_status(run.folder / "status.json", Status(state="finished"))
