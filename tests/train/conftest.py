"""Fixtures of the tests of training."""

import multiprocessing

import pytest


@pytest.fixture(scope="module")
def processes():
    """Where lives are started: they find what they import loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.lives"])
    return context
