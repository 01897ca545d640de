"""Fixtures of the examination."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import coco


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Any]:
    """A dataset of one split without any finding: 20 images of noise, 13 objects of each of three categories."""
    return coco(images=20, objects=2, empty_images=1)
