"""The recipe of the next run: follows its base model and dataset, and fills what the user has not set."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.data.splits.split_use import expected_use
from sam3_lora.errors import Sam3LoraError
from sam3_lora.recipes import Recipe, recipe_for
from sam3_lora.ui import resources
from sam3_lora.ui.components.forms import fill_form, form_value

_FOLLOWED = "recipe-followed"  # tuple[str, int | None]: the base model and the images that the form's recipe is for
_OWN = "recipe-own"  # set[str]: dotted settings that the user has set in the form
_FILLED = "recipe-filled"  # tuple[str, ...]: dotted settings that the last change of base or dataset has filled


def forget_recipe() -> None:
    """The form has got other settings as a whole: those that differ from their recipe are the user's own."""
    for key in (_FOLLOWED, _OWN, _FILLED):
        st.session_state.pop(key, None)


def mark_own(*names: str) -> None:
    """The user has set these settings, by dotted names: no recipe changes them from now on."""
    st.session_state[_OWN] = st.session_state.get(_OWN, set()) | set(names)


def follow_recipe(config: RunConfig) -> bool:
    """Where base model or dataset have changed, fills the new recipe's values, but for the user's own.

    Call it before the form is drawn.

    Args:
        config: of the form.

    Returns:
        Whether values have changed.
    """
    before = st.session_state.get(_FOLLOWED)
    images = _training_images(config)
    if images is None and before is not None:  # a dataset that is not found yet says nothing about its size
        images = before[1]
    st.session_state[_FOLLOWED] = (config.model.base, images)
    if before is None:
        return False
    old, new = recipe_for(*before), recipe_for(config.model.base, images)
    if (old.base, old.size) == (new.base, new.size):
        return False
    own = st.session_state.get(_OWN, set())
    values = {
        name: value
        for name, value in new.values.items()
        if name not in own and same(form_value(name), old.values[name]) and not same(form_value(name), value)
    }
    st.session_state[_FILLED] = tuple(values)
    _fill(values)
    return bool(values)


def current_recipe() -> Recipe | None:
    """The recipe for the form's base model and dataset; None before :func:`follow_recipe` has looked at them."""
    followed = st.session_state.get(_FOLLOWED)
    return None if followed is None else recipe_for(*followed)


def own_settings(recipe: Recipe) -> tuple[str, ...]:
    """The settings of a recipe whose value in the form is another, by dotted names."""
    return tuple(name for name, value in recipe.values.items() if not same(form_value(name), value))


def filled_settings() -> tuple[str, ...]:
    """The settings that the last change of base model or dataset has filled, by dotted names."""
    return st.session_state.get(_FILLED, ())


def use_recipe(recipe: Recipe, names: Iterable[str]) -> None:
    """Puts a recipe's values of these settings into the form, and counts them as the recipe's again."""
    names = set(names)
    st.session_state[_OWN] = st.session_state.get(_OWN, set()) - names
    st.session_state[_FILLED] = ()
    _fill({name: value for name, value in recipe.values.items() if name in names})


def same(value: object, other: object) -> bool:
    """Whether two values of a setting are the same; the order of a list does not matter."""
    if isinstance(value, list) and isinstance(other, list):
        return sorted(value) == sorted(other)
    return value == other


def _fill(values: dict[str, object]) -> None:
    fill_form(RunConfig().with_settings(values), values)


def _training_images(config: RunConfig) -> int | None:
    """The images to train on; None if the dataset cannot be used."""
    try:
        use = expected_use(resources.open_dataset(config.data.path), config.data, config.training.seed)
    except Sam3LoraError:
        return None
    return use.train_images
