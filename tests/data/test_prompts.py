"""What an image is asked for: its own categories with their own objects, and nothing that could be there."""

import random
from pathlib import Path

import numpy as np
import pytest

from sam3_lora.config import Negatives
from sam3_lora.data.prompts import phrase_of, phrases_for
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.words import foreign_words, known_words

FOREIGN = list(foreign_words())


def image(*categories: str, crowds: tuple[str, ...] = (), unusable: tuple[str, ...] = ()) -> ImageRecord:
    annotations = [
        Annotation(index, category, (0.0, 0.0, 1.0, 1.0), None, index >= len(categories))
        for index, category in enumerate((*categories, *crowds))
    ]
    return ImageRecord(1, "a.png", Path("a.png"), 9, 9, tuple(annotations), frozenset(unusable))


def ask(record: ImageRecord, categories: tuple[str, ...] = (), num_negatives: int = 3, seed: int = 0):
    positives, negatives = phrases_for(record, categories, Negatives(num_negatives), np.random.default_rng(seed))
    return {positive.phrase: [item.id for item in positive.annotations] for positive in positives}, negatives


@pytest.mark.parametrize(
    ("category", "phrase"),
    [
        ("Pothole", "pothole"),
        ("Paint_Marking", "paint marking"),
        ("  traffic-light ", "traffic light"),
        ("paint  marking", "paint marking"),
    ],
)
def test_phrase_of(category, phrase):
    assert phrase_of(category) == phrase


def test_one_positive_per_category_with_its_own_objects():
    positives, _ = ask(image("crack", "pothole", "crack"), ("crack", "pothole", "joint"))
    assert positives == {"crack": [0, 2], "pothole": [1]}


def test_categories_that_read_the_same_are_one_phrase():
    positives, _ = ask(image("Paint_Marking", "paint marking"))
    assert positives == {"paint marking": [0, 1]}


def test_absent_categories_come_before_everyday_words():
    categories = ("crack", "pothole", "joint", "stain", "patch")
    _, negatives = ask(image("crack"), categories, num_negatives=6)
    assert set(negatives[:4]) == {"pothole", "joint", "stain", "patch"}
    assert set(negatives[4:]) <= set(FOREIGN) and len(negatives) == 6
    _, few = ask(image("crack"), categories, num_negatives=2)
    assert set(few) < {"pothole", "joint", "stain", "patch"}


@pytest.mark.parametrize(
    "record",
    [image("pothole"), image(crowds=("pothole",)), image(unusable=("pothole",)), image("joint", unusable=("Pothole",))],
)
@pytest.mark.parametrize(
    "absent", ["pothole", "Potholes", "POTHOLE", "pot hole", "road pothole", "pothole-detection", "deep_potholes"]
)
def test_never_a_category_that_is_there_in_whatever_spelling(record, absent):
    for seed in range(10):
        _, negatives = ask(record, (absent, "stain"), num_negatives=3, seed=seed)
        assert phrase_of(absent) not in negatives and "stain" in negatives


@pytest.mark.parametrize(
    ("present", "absent"), [("boxes", "box"), ("house", "houses"), ("cherry", "cherries"), ("police car", "car")]
)
def test_plurals_and_more_general_words_are_not_absent(present, absent):
    assert absent not in ask(image(present), (absent,), num_negatives=32)[1]
    assert present not in ask(image(absent), (present,), num_negatives=32)[1]


@pytest.mark.parametrize(("present", "absent"), [("car", "carpet"), ("glass", "gloss"), ("red light", "green light")])
def test_words_that_only_look_alike_are_absent(present, absent):
    assert absent in ask(image(present), (absent,))[1]


def test_a_crowd_alone_is_neither_asked_nor_denied():
    positives, negatives = ask(image(crowds=("person",)), ("person",), num_negatives=32)
    assert positives == {} and "person" not in negatives and len(negatives) == 32


def test_everyday_words_that_could_be_there_are_left_out():
    for seed in range(5):
        _, negatives = ask(image("teapot", "Fruit", "fishes"), num_negatives=32, seed=seed)
        assert not {"teapot", "pineapple", "strawberry", "octopus", "dolphin"} & set(negatives)


def test_everyday_words_are_many_different_and_already_phrases():
    assert len(FOREIGN) >= 200 and len(set(FOREIGN)) == len(FOREIGN)
    assert [phrase_of(word) for word in FOREIGN] == list(FOREIGN)


def test_negatives_differ_from_each_other_and_follow_the_random_numbers():
    categories = tuple(f"thing number {chr(97 + i)}x{i}" for i in range(30))
    drawn = [tuple(ask(image(), categories, 5, seed)[1]) for seed in range(20)]
    assert all(len(set(negatives)) == 5 for negatives in drawn)
    assert len(set(drawn)) > 10
    assert drawn == [tuple(ask(image(), categories, 5, seed)[1]) for seed in range(20)]


def test_an_everyday_word_that_is_also_a_category_is_asked_once():
    _, negatives = ask(image("crack"), FOREIGN[:3], num_negatives=32)
    assert len(set(negatives)) == 32 and set(FOREIGN[:3]) <= set(negatives)


def test_no_negatives_if_none_are_wanted_and_any_generator_will_do():
    assert ask(image("crack"), ("joint",), num_negatives=0)[1] == []
    assert len(phrases_for(image("crack"), ("joint",), Negatives(3), random.Random(0))[1]) == 3


def test_own_words_are_asked_instead_of_names_and_keep_out_what_they_mean():
    own = {"crack": " Long  Fissure ", "joint": "fissure"}
    positives, negatives = phrases_for(image("crack"), ("crack", "joint", "stain"), Negatives(5), random.Random(0), own)
    assert [positive.phrase for positive in positives] == ["long fissure"]
    assert "stain" in negatives and not {"crack", "joint", "fissure"} & set(negatives)


def test_categories_with_the_same_own_words_are_one_phrase():
    own = {"crack": "damage", "pothole": "Damage"}
    positives, _ = phrases_for(image("crack", "pothole"), ("crack", "pothole"), Negatives(0), random.Random(0), own)
    assert [(positive.phrase, len(positive.annotations)) for positive in positives] == [("damage", 2)]


def test_some_negatives_are_foreign_words_even_where_categories_would_do():
    categories = ("pothole", "joint", "stain", "patch")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        _, negatives = phrases_for(image("crack"), categories, Negatives(3, foreign=1), rng)
        assert [word in categories for word in negatives] == [True, True, False] and negatives[2] in FOREIGN
    _, all_foreign = phrases_for(image("crack"), categories, Negatives(2, foreign=5), np.random.default_rng(0))
    assert set(all_foreign) < set(FOREIGN) and len(all_foreign) == 2


def test_phrases_that_the_user_refuses_are_asked_of_each_image_unless_they_could_be_there():
    wanted = Negatives(3, foreign=1, refused=("Manhole  Cover", "cracks"))
    for seed in range(10):
        _, negatives = phrases_for(image("crack"), ("joint", "stain"), wanted, np.random.default_rng(seed))
        assert "manhole cover" in negatives and "cracks" not in negatives


def test_words_that_may_be_anywhere_are_no_foreign_words():
    assert not set(FOREIGN) & set(known_words("facebook/sam3"))
    assert len(known_words("facebook/sam3")) > 300
    assert {"circle", "blue star", "dotted bar"} < set(known_words("demo"))
