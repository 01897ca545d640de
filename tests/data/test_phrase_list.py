"""What people type becomes the phrases that they mean, and phrases become a text that means them."""

import pytest

from sam3_lora.data.phrase_list import join_phrases, split_phrases


def test_phrases_are_parted_by_commas_semicolons_and_lines_and_asked_once():
    assert split_phrases(" pothole, Crack;crack\n,, POTHOLE ") == ["pothole", "Crack"]
    assert split_phrases(" ,; ") == []


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("damage, severe", ["damage, severe"]),
        ("Damage,severe; crack", ["damage, severe", "crack"]),
        ("crack, damage ,  severe", ["crack", "damage, severe"]),
        ("damage, slight", ["damage", "slight"]),
        ("damage, severe, deep", ["damage, severe, deep"]),
        ("severe, damage", ["severe", "damage"]),
        ("pipe; rusty", ["pipe; rusty"]),
        ('"damage, severe"', ["damage, severe"]),
    ],
)
def test_a_known_phrase_is_never_split(text, phrases):
    known = ["damage, severe", "damage, severe, deep", "pipe; rusty", "crack"]
    assert split_phrases(text, known) == phrases


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ('"damage, severe", crack', ["damage, severe", "crack"]),
        ("'damage; severe'", ["damage; severe"]),
        ("“damage, severe”;crack", ["damage, severe", "crack"]),
        ('"crack"', ["crack"]),
        ('"", crack', ["crack"]),
        ("dog's collar, driver's seat", ["dog's collar", "driver's seat"]),
        ('12" pipe, 14" pipe', ['12" pipe', '14" pipe']),
        ('"stop" sign, crack', ['"stop" sign', "crack"]),
        ('"damage, severe', ['"damage', "severe"]),
    ],
)
def test_quotes_group_only_around_a_whole_phrase(text, phrases):
    assert split_phrases(text) == phrases


@pytest.mark.parametrize(
    "phrases",
    [
        ["pothole", "crack"],
        ["damage, severe", "crack", "pipe; rusty"],
        ['12" pipe, long', "dog's collar, red", '"stop" sign'],
        ['a "b", c\'s d', "'quoted'"],
    ],
)
def test_joined_phrases_are_the_same_when_split_again(phrases):
    assert split_phrases(join_phrases(phrases)) == phrases
