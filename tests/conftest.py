"""Settings that must be made before TensorFlow is imported."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN reorders float32 sums, which takes golden gradients further from their figures. `make demo`
# and every run of a user have it on.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# The suite runs in several processes at once.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")


def pytest_collection_modifyitems(items):
    """One process runs a file's tests, or, of the contract, a method's: they share what they made.

    With `--dist loadgroup`.
    """
    for item in items:
        group = item.path.stem
        if group == "test_contract":
            group += item.callspec.params["case"]
        item.add_marker(pytest.mark.xdist_group(group))
