"""Settings that must be made before TensorFlow is imported."""

import gc
import os
import signal

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN reorders float32 sums, which takes golden gradients further from their figures. `make demo`
# and every run of a user have it on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# The suite runs in several processes at once.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
# Building graphs makes many objects that stay, which the collector would visit again and again.
gc.set_threshold(100_000, 50, 1000)
# Shells start what runs in the background with signals ignored, which trainings would respect.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


SLOW_FOLDERS = ("client", "engine", "server", "tuning", "verbs")
SLOW_FILES = ("test_contract", "test_add_a_method", "test_examples", "test_seg_hierarchical")
"""Tests that train, serve or start processes: `make check` leaves them to `make test`."""


def pytest_collection_modifyitems(items):
    """One process runs a file's tests, or, of the contract, a method's: they share what they made.

    Those that take long begin first, so that all processes end at about the same time. With
    `--dist loadgroup --no-loadscope-reorder`.
    """
    long = set()
    for item in items:
        item.group = item.path.stem
        if item.group == "test_contract":
            item.group += item.callspec.params["case"]
            long.add(item.group)
        elif item.get_closest_marker("slow") or item.path.suffix == ".ipynb":
            long.add(item.group)
        item.add_marker(pytest.mark.xdist_group(item.group))
    items.sort(key=lambda item: item.group not in long)
    for item in items:
        slow = item.path.parent.name in SLOW_FOLDERS or item.path.stem in SLOW_FILES
        if slow or item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def eagerly():
    """For a file whose functions run a few times only: building their graphs would take longer."""
    import tensorflow as tf

    gc.freeze()  # A search collects after each trial: not what was there before.
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
    gc.unfreeze()
