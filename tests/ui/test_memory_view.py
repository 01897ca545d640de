"""The GPU memory that the configure page shows before any weight is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import Sam3Config

from sam3_lora.config import RunConfig
from sam3_lora.model.base import load_config
from sam3_lora.recipes import preset
from sam3_lora.train.memory import MAX_BATCH
from sam3_lora.ui.configure.memory_outlook import GIB, MemoryOutlook
from tests.ui.helpers import new_app, texts

SAM3 = Sam3Config()


def outlook(config: RunConfig, card_gb: int = 24) -> MemoryOutlook:
    return MemoryOutlook(config, SAM3, card_gb * GIB)


@pytest.mark.parametrize(("card_gb", "checkpointing"), [(8, True), (80, False)])
def test_auto_settings_fit_the_card(card_gb: int, checkpointing: bool) -> None:
    found = outlook(RunConfig(), card_gb)
    assert found.resolved.model.gradient_checkpointing is checkpointing
    assert found.resolved.training.precision == "bf16"
    assert found.estimate.total <= found.available
    assert found.largest_batch >= found.resolved.training.batch_size


def test_a_saving_is_what_the_changed_settings_need_less() -> None:
    config = preset("balanced").with_settings(
        {"model.gradient_checkpointing": False, "training.precision": "fp32", "training.batch_size": 4}
    )
    found = outlook(config)
    changed = {name for saving in found.savings for name in saving.settings}
    assert {"model.gradient_checkpointing", "training.precision", "lora.components", "model.image_size"} <= changed
    for saving in found.savings:
        assert outlook(config.with_settings(saving.settings)).estimate.total == found.estimate.total - saving.bytes


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    config = preset("balanced").with_settings({"model.gradient_checkpointing": True, "training.precision": "bf16"})
    found = outlook(config)
    most = found.largest_batch
    for images, fits in ((most, True), (most + 1, False)):
        estimate = outlook(config.with_settings({"training.batch_size": images})).estimate
        assert (estimate.total <= found.available) is fits
    assert (outlook(config, card_gb=1).largest_batch, outlook(config, card_gb=1000).largest_batch) == (0, MAX_BATCH)


def test_the_cache_takes_a_file_per_image_and_way_of_flipping_it() -> None:
    config = RunConfig().with_settings({"lora.components": ["detr_decoder"], "augmentation.flip": "horizontal"})
    assert outlook(config).reads_cache
    assert outlook(config).cache_bytes(10, 3) == (10 * 2 + 3) * 72 * 72 * 1024 * 2
    assert not outlook(config.with_settings({"data.vision_cache_gb": 0})).reads_cache
    assert not outlook(RunConfig()).reads_cache, "the vision encoder is adapted"


def test_the_page_estimates_sam3_for_the_chosen_card_without_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path))
    monkeypatch.setattr(
        "sam3_lora.ui.resources.get_architecture", lambda base: load_config("demo") if base == "demo" else SAM3
    )
    app = new_app()
    app.switch_page("pages/configure.py").run()
    assert "GPU memory" not in texts(app), "the demo needs none"
    app.text_input(key="setting-model-base").set_value("facebook/sam3").run()
    assert not app.exception
    on_24 = texts(app)
    assert "at the peak of a step" in on_24
    app.selectbox(key="memory-card").set_value(8).run()
    on_8 = texts(app)
    assert "Largest batch on 24 GB" in on_24
    assert "Largest batch on 8 GB" in on_8
    assert ", with gradient checkpointing" in on_8
