"""The generated scenes: a phrase asked as present has its objects, one asked as absent has none."""

import numpy as np

from scripts import scenes


def test_phrases_mean_what_is_in_the_picture():
    rng = np.random.default_rng(0)
    absent = asked = 0
    for _ in range(60):
        scene = scenes.make_scene(rng)
        for figure in scene.figures:
            assert figure.mask.shape == scene.image.shape[:2] == (scenes.SIDE, scenes.SIDE)
            assert figure.mask.any()
        for first, second in zip(scene.figures, scene.figures[1:], strict=False):
            assert not (first.mask & second.mask).any()  # what is hidden does not belong to an object
        phrases = scenes.ask(rng, scene)
        assert len(set(phrases)) == len(phrases) == 3
        found = [any(scenes.answers(phrase, figure) for figure in scene.figures) for phrase in phrases]
        asked += len(found)
        absent += found.count(False)
    assert 0.3 < absent / asked < 0.5


def test_scenes_are_repeatable():
    first, again = (scenes.make_scene(np.random.default_rng(7)) for _ in range(2))
    assert (first.image == again.image).all()
