"""Fixtures of the deployment tests, which `make test-deployment` runs."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))  # tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A model folder with version 1."""
    from tiny_models import save

    path = tmp_path_factory.mktemp("models") / "g"
    save(path / "1")
    return path
