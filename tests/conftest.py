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
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
# Building graphs makes many objects that stay, which the collector would visit again and again.
gc.set_threshold(100_000, 50, 1000)
# Shells start what runs in the background with signals ignored, which trainings would respect.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


SLOW_FOLDERS = ("client", "engine", "exporting", "server", "tuning", "verbs")
SLOW_FILES = ("test_contract", "test_add_a_method", "test_examples", "test_seg_hierarchical")
"""Tests that train, export, serve or start processes: `make check` leaves them to `make test`."""


def _group(nodeid):
    """The tests that share what they made: those of a file; of the contract, those of a method."""
    file, _, test = nodeid.partition("::")
    if not file.endswith("test_contract.py"):
        return file
    return file + test.partition("[")[2].rstrip("]").partition("-")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Each group in one process, with `--dist loadscope --no-loadscope-reorder`."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(items):
    """Groups that take long begin first, so that all processes end at about the same time."""
    long = set()
    for item in items:
        notebook = item.path.suffix == ".ipynb"
        marked = item.get_closest_marker("slow") is not None
        if notebook or marked or item.path.stem == "test_contract":
            long.add(_group(item.nodeid))
        if notebook or item.path.parent.name in SLOW_FOLDERS or item.path.stem in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _group(item.nodeid) not in long)


@pytest.fixture(scope="module")
def eagerly():
    """For a file whose functions run a few times only: building their graphs would take longer."""
    from tfface.testing.training import eagerly

    gc.freeze()  # A search collects after each trial: not what was there before.
    with eagerly():
        yield
    gc.unfreeze()
