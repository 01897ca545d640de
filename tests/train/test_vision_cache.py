"""The vision cache in a run: the same losses, a file per image, and what happens when files or room are missing."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from sam3_lora.data import vision_features
from sam3_lora.data.samples import SampleDataset
from sam3_lora.data.vision_features import features_folder
from sam3_lora.predict.vision_cache import GB, can_cache, fingerprint
from sam3_lora.runs.run import Run
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.loop import Training, fit
from sam3_lora.train.setup import prepare
from sam3_lora.ui.runs import progress_sentence
from tests.factories import write_dataset
from tests.train.helpers import request_after, totals, train

USAGE = namedtuple("USAGE", "total used free")
IMAGES, VARIANTS = 12, 12  # six to train on, each also mirrored, and copies of them to validate on


@pytest.fixture
def frozen(config, only_steps, tmp_path, monkeypatch):
    """Leaves the vision encoder alone; with a cache of its own."""
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))
    return config.with_settings({"lora.components": ["detr_decoder", "mask_decoder", "scoring"]})


@pytest.fixture
def decoded(monkeypatch):
    """The images that were decoded, by their places."""
    places, original = [], SampleDataset.pixel_values

    def count(self, index):
        places.append(index)
        return original(self, index)

    monkeypatch.setattr(SampleDataset, "pixel_values", count)
    return places


def setup_of(config):
    return prepare(config, make_accelerator(config.training), log=lambda line: None)


def fill(setup):
    """The last sign of progress."""
    return list(setup.vision.fill(setup.data.every_split))[-1]


def files() -> list[Path]:
    return sorted(features_folder().glob("*.safetensors"))


def validations(run):
    return [row["total"] for row in run.metrics()[0] if row["kind"] == "validation"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_the_cache_has_the_losses_of_one_without(frozen, decoded, precision):
    without = train(frozen, data__vision_cache_gb=0, training__precision=precision)
    assert not features_folder().exists() and len(decoded) > IMAGES
    decoded.clear()
    first = train(frozen, training__precision=precision)
    assert len(decoded) == IMAGES and len(files()) == VARIANTS, "each image is decoded once for all its variants"
    decoded.clear()
    again = train(frozen, training__precision=precision)
    assert not decoded
    for run in (first, again):
        assert totals(run) == pytest.approx(totals(without), rel=1e-5)
        assert validations(run) == pytest.approx(validations(without), rel=1e-5)


def test_images_that_are_changed_each_time_are_not_kept(frozen, decoded):
    """With more than flips every step encodes its images, as without a cache, and the log says why."""
    changed = frozen.with_settings({"augmentation.scale_min": 0.5})
    run = train(changed)
    assert not features_folder().exists()
    assert run.log_tail().count("The frozen vision encoder runs in every step") == 1
    assert totals(run) == pytest.approx(totals(train(changed, data__vision_cache_gb=0)), rel=1e-5)


def test_exemplar_boxes_leave_the_cache_on(frozen, decoded):
    boxed = frozen.with_settings({"augmentation.boxes_added": 0.5, "augmentation.word_dropped": 0.5})
    run = train(boxed)
    assert len(decoded) == IMAGES and len(files()) == VARIANTS
    assert totals(run) == pytest.approx(totals(train(boxed, data__vision_cache_gb=0)), rel=1e-5)


@pytest.mark.slow
def test_loading_workers_read_the_cache(frozen):
    frozen = frozen.with_settings({"training.max_steps": 2, "data.valid_split": ""})
    without = train(frozen, data__vision_cache_gb=0)
    run = train(frozen, data__num_workers=1)
    assert totals(run) == pytest.approx(totals(without), rel=1e-5)


def test_neither_step_nor_validation_runs_the_backbone(frozen):
    setup = setup_of(frozen)
    passes = []
    setup.model.base.model.vision_encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    plan = fill(setup).plan
    assert (plan.images, plan.kept, plan.missing) == (IMAGES, IMAGES, VARIANTS) and len(passes) == IMAGES
    passes.clear()
    for samples in setup.data.every_split:
        batch = setup.data.collate([samples[0], samples[1]])
        assert batch.pixel_values is None and batch.backbone.shape[0] == 2
        setup.forward(setup.objective, batch)
    assert not passes
    assert fill(setup).plan.missing == 0


def test_files_that_are_lost_or_cut_during_a_run_are_computed_again(frozen, monkeypatch):
    without = train(frozen, data__vision_cache_gb=0)
    original = Training.step

    def lose(self, group):
        original(self, group)
        if self.progress.step == 1:
            for number, path in enumerate(files()):
                path.unlink() if number % 2 else path.write_bytes(path.read_bytes()[:-1])

    monkeypatch.setattr(Training, "step", lose)
    run = train(frozen)
    assert totals(run) == pytest.approx(totals(without), rel=1e-5)
    assert validations(run) == pytest.approx(validations(without), rel=1e-5)
    each = max(path.stat().st_size for path in files())
    assert sum(path.stat().st_size == each for path in files()) > VARIANTS // 2, "those that were met are whole again"


def test_a_file_that_was_cut_between_runs_is_computed_again(frozen, decoded):
    setup = setup_of(frozen)
    fill(setup)
    files()[0].write_bytes(files()[0].read_bytes()[:100])
    decoded.clear()
    assert fill(setup_of(frozen)).plan.missing == 1 == len(decoded)
    assert len({path.stat().st_size for path in files()}) == 1


def test_what_fits_is_kept_and_mixed_batches_have_the_same_losses(frozen):
    frozen = frozen.with_settings({"training.max_steps": 2})
    without = train(frozen, data__vision_cache_gb=0, training__batch_size=3)
    each = setup_of(frozen).vision.files.file_bytes
    run = train(frozen, data__vision_cache_gb=10.5 * each / GB, training__batch_size=3)
    assert len(files()) == 10, "six images, four of them mirrored, too"
    assert f"its output for 10 of {IMAGES} images is kept" in run.log_tail(50)
    assert totals(run) == pytest.approx(totals(without), rel=1e-5)


def test_other_models_features_make_room_for_this_runs(frozen):
    each = setup_of(frozen).vision.files.file_bytes
    full = frozen.with_settings({"data.vision_cache_gb": (VARIANTS + 0.5) * each / GB})
    fill(setup_of(full))
    before = files()
    fill(setup_of(full.with_settings({"training.precision": "bf16"})))
    assert sum(path.stat().st_size for path in files()) <= (VARIANTS + 0.5) * each
    assert 0 < len(set(before) & set(files())) < VARIANTS, "the older are deleted as far as needed"


def test_a_lower_bound_deletes_what_no_longer_fits(frozen):
    setup = setup_of(frozen)
    each = setup.vision.files.file_bytes
    fill(setup)
    setup = setup_of(frozen.with_settings({"data.vision_cache_gb": 7.5 * each / GB}))
    plan = fill(setup).plan
    assert (plan.kept, plan.missing) == (7, 0) and len(files()) == 7, "six images and one mirrored"
    batch = setup.data.collate([setup.data.samples[place] for place in range(len(setup.data.samples))])
    assert len(batch.images) == len(setup.vision.complete(batch).backbone)


def test_without_room_on_the_disk_images_are_encoded_in_every_step(frozen, monkeypatch):
    monkeypatch.setattr(vision_features.shutil, "disk_usage", lambda _: USAGE(10**12, 10**12, 10**9))
    run = train(frozen, training__max_steps=1)
    assert run.status().state == "finished" and not files()
    assert run.log_tail(50).count("The vision encoder runs in every step: there is no room") == 1


def test_a_disk_that_is_full_meanwhile_ends_the_cache_not_the_run(frozen, monkeypatch, caplog):
    def full(self, path, features):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vision_features.FeatureFiles, "save", full)
    assert train(frozen, training__max_steps=2).status().state == "finished"
    assert len([record for record in caplog.records if "No more vision features" in record.message]) == 1


def test_an_adapter_of_vision_is_trained_without_the_cache(frozen):
    assert setup_of(frozen.with_settings({"lora.components": ["vision_encoder", "scoring"]})).vision is None
    setup = setup_of(frozen)
    assert can_cache(setup.model.detector)
    next(setup.model.base.model.vision_encoder.backbone.parameters()).requires_grad_(True)
    assert not can_cache(setup.model.detector)


def test_a_stop_during_the_first_pass_ends_the_run_which_is_resumed_from_the_cache(frozen, monkeypatch):
    whole = train(frozen, data__vision_cache_gb=0)
    run = Run.create(frozen)
    original, seen = Training._handle_requests, []

    def stop_after_three(self):
        seen.append(self.report.status.preparation)
        if len(seen) == 5:  # looked up, planned, three encoded
            self.run.requests.add("stop")
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_handle_requests", stop_after_three)
        assert fit(run).state == "stopped"
    assert (run.status().step, run.status().preparation) == (0, None)
    assert 0 < len(files()) < VARIANTS
    assert seen[0].stage == "looking" and [at.done for at in seen[1:5]] == [0, 1, 2, 3]
    before = set(files())
    assert fit(run, resume=True).state == "finished"
    assert before < set(files()) and len(files()) == VARIANTS
    assert totals(run) == pytest.approx(totals(whole), rel=1e-5)


def test_a_resumed_run_reads_the_cache(frozen, decoded, monkeypatch):
    run = Run.create(frozen)
    with monkeypatch.context() as patch:
        request_after(patch, 2, "stop")
        fit(run)
    decoded.clear()
    assert fit(run, resume=True).state == "finished"
    assert not decoded


def test_copies_of_an_image_are_encoded_once(frozen, tmp_path):
    data = write_dataset(tmp_path / "copies", splits=("train",), images=5, empty_images=0)
    images = sorted((data / "train").glob("*.png"))
    for copy in images[1:3]:
        shutil.copy(images[0], copy)
    setup = setup_of(frozen.with_settings({"data.path": str(data), "data.valid_split": ""}))
    plan = fill(setup).plan
    assert (plan.images, plan.kept, plan.missing) == (5, 5, 6) and len(files()) == 6
    batch = setup.data.collate([setup.data.samples[place] for place in range(5)])
    assert batch.pixel_values is None


def test_a_changed_image_is_encoded_again(frozen, tmp_path):
    data = write_dataset(tmp_path / "data", splits=("train",), images=3, empty_images=0)
    frozen = frozen.with_settings({"data.path": str(data), "data.valid_split": ""})
    fill(setup_of(frozen))
    first, second = sorted((data / "train").glob("*.png"))[:2]
    second.write_bytes(first.read_bytes())
    first.unlink()
    shutil.copy(second, first)
    plan = fill(setup_of(frozen)).plan
    assert plan.missing == 0, "both are known by their content"
    first.write_bytes(first.read_bytes() + b"\0")
    assert fill(setup_of(frozen)).plan.missing == 2


def test_the_preflight_measures_a_step_that_reads_the_cache(frozen, decoded):
    from sam3_lora.train.preflight.preflight import preflight

    result = preflight(frozen)
    assert result.ok and result.measured.seconds_per_step
    assert 0 < len(files()) < VARIANTS and len(decoded) == len(set(decoded)), "only the images that it looks at"


def test_the_fingerprint_is_that_of_weights_and_architecture(frozen):
    backbone = setup_of(frozen).model.base.model.vision_encoder.backbone
    before = {dtype: fingerprint(backbone, dtype) for dtype in (torch.float32, torch.bfloat16)}
    assert fingerprint(backbone.to(torch.bfloat16), torch.bfloat16) == before[torch.bfloat16]
    assert fingerprint(backbone.float(), torch.float32) != before[torch.float32], "rounded"
    seen = {fingerprint(backbone, torch.bfloat16)}
    for weight in (backbone.layers[1].attention.q_proj.weight, backbone.embeddings.position_embeddings):
        with torch.no_grad():
            weight += 0.1 * torch.randn_like(weight)
        seen.add(fingerprint(backbone, torch.bfloat16))
    backbone.config.window_size += 1
    seen.add(fingerprint(backbone, torch.bfloat16))
    assert len(seen) == 4


def test_precision_size_and_processor_give_other_files(frozen):
    from sam3_lora.predict.vision_cache import VisionCache

    setup = setup_of(frozen)
    detector, processor = setup.model.detector, setup.model.base.processor

    def path(precision="fp32"):
        return VisionCache(detector, precision, processor, 1).files.path(b"image", ())

    seen = [path(), path("bf16")]
    assert path() == seen[0]
    image_processor, before = processor.image_processor, dict(vars(processor.image_processor))
    try:
        image_processor.image_mean = [0.4, 0.5, 0.5]
        seen.append(path())
        image_processor.size = {
            "height": image_processor.size["height"] * 2,
            "width": image_processor.size["width"] * 2,
        }
        seen.append(path())
    finally:
        vars(image_processor).update(before)
    assert len(set(seen)) == 4


def test_the_page_says_how_far_the_first_pass_is(frozen):
    run = Run.create(frozen)
    said = []
    original = Training._handle_requests

    def look(self):
        said.append(progress_sentence(self.report.status))
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_handle_requests", look)
        fit(run)
    assert said[0].startswith(f"Looking images up in the vision cache: 0 of {IMAGES}")
    assert said[3].startswith(f"Encoding images for the vision cache: 2 of {IMAGES}")
    assert "vision cache" not in progress_sentence(run.status())
