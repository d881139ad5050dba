"""Notebooks as tests: in their smallest setting, each with a folder of its own.

`pytest --nbmake notebooks`; `make test` does so, too.
"""

import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest

# A kernel runs this when it starts, and the function before its first cell: an import at the start
# could outlast the time that a kernel has to answer. Building graphs takes far longer than running
# the few steps.
_STARTUP = """\
def eagerly(*_):
    import tensorflow as tf
    tf.config.run_functions_eagerly(True)
    tf.data.experimental.enable_debug_mode()
    get_ipython().events.unregister("pre_run_cell", eagerly)

get_ipython().events.register("pre_run_cell", eagerly)
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Lends the kernel a folder for runs, and one for what it does first."""
    with tempfile.TemporaryDirectory() as folder:
        startup = Path(folder, "ipython", "profile_default", "startup")
        startup.mkdir(parents=True)
        (startup / "eager.py").write_text(_STARTUP)
        settings = {
            "TFFACE_TINY": "1",
            "TFFACE_RUNS": str(Path(folder, "runs")),
            "IPYTHONDIR": str(Path(folder, "ipython")),
        }
        with mock.patch.dict(os.environ, settings):
            return (yield)
