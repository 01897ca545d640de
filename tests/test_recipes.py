"""The recipes: which values for which base and size of dataset, and that nothing unconfirmed is called confirmed."""

import pytest

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.recipes import FUSION, MAX_FEW, MAX_HUNDREDS, PRESETS, UNCONFIRMED, demo_config, recipe_for

SAM3 = "facebook/sam3"


@pytest.mark.parametrize("images", [1, 100, 10_000, None])
def test_the_demo_keeps_its_own(images):
    recipe = recipe_for(DEMO, images)
    assert recipe.confirmed and RunConfig().with_settings(recipe.values) == demo_config()
    others = {setting for setting, value in recipe_for(SAM3, images).values.items() if recipe.values[setting] != value}
    assert {"training.learning_rate", "replay.weight"} <= others, "a large model learns at lower rates"


@pytest.mark.parametrize(
    ("images", "epochs", "vision"),
    [
        (1, 40, False),
        (MAX_FEW, 40, False),
        (MAX_FEW + 1, 20, False),
        (100, 20, False),
        (MAX_HUNDREDS, 20, False),
        (MAX_HUNDREDS + 1, 10, True),
        (5000, 10, True),
        (None, 20, False),
    ],
)
def test_real_sam_3_by_size_of_the_dataset(images, epochs, vision):
    for base in (SAM3, "/models/sam3", "sam3.pt"):
        recipe = recipe_for(base, images)
        config = RunConfig().with_settings(recipe.values)
        assert config.training.epochs == epochs
        assert set(config.lora.components) == set(FUSION) | ({"vision_encoder"} if vision else set())
        training = config.training
        assert (training.learning_rate, training.max_grad_norm, training.images_per_step) == (1e-4, 0.1, 2)
        assert training.vision_lr_factor == pytest.approx(1 / 3, abs=1e-3)
        assert (config.lora.rank, config.lora.alpha, config.data.num_negatives) == (16, 32.0, 5)
        changes = config.augmentation
        assert changes.scale_min == pytest.approx(480 / 1008, abs=1e-3)
        assert (changes.crop_min < 1, changes.color_jitter > 0) == (not vision, not vision)
        assert changes.boxes_added > 0 and changes.word_dropped > 0 and changes.rotation == changes.hue == 0


def test_what_was_not_measured_says_so_and_all_say_where_they_come_from():
    for images in (5, 50, 500):
        recipe = recipe_for(SAM3, images)
        assert not recipe.confirmed
        for each in recipe.advice:
            assert each.source and each.reason.startswith(each.source) and UNCONFIRMED in each.reason
        assert recipe_for(DEMO, images).values.keys() == recipe.values.keys(), "so that going back resets all of them"


def test_the_preset_of_the_recipe_is_fusion():
    assert PRESETS["fusion"][1]["lora.components"] == FUSION
    assert "presence_head" in FUSION and "vision_encoder" not in FUSION
