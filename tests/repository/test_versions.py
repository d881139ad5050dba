"""The range of supported versions, and what the notebooks' first cell installs."""

import importlib.util
import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def test_oldest_versions_are_the_lower_bounds_of_setup():
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    options = setup.call_args.kwargs
    oldest = re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / "tests" / "oldest.txt").read_text(), re.M)
    oldest = {name: Version(version) for name, version in oldest}
    extras = options["extras_require"]
    for text in options["install_requires"] + extras["serving"] + extras["tuning"]:
        requirement = Requirement(text)
        (lowest,) = [s.version for s in requirement.specifier if s.operator == ">="]
        assert oldest[requirement.name] == Version(lowest), text
    for text in extras["dev"]:
        requirement = Requirement(text)
        if requirement.name in oldest:
            assert oldest[requirement.name] in requirement.specifier, text


def installed(monkeypatch, tfface, driver, sees_gpu):
    """What the first cell passes to pip; None: it installs nothing."""
    cells = json.loads((ROOT / "notebooks" / "01_quickstart.ipynb").read_text())["cells"]
    code = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
    calls = []

    def call(command):
        assert "list_physical_devices" in command[-1]
        return 0 if sees_gpu else 1

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: tfface or None)
    monkeypatch.setattr(shutil, "which", lambda name: driver or None)
    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(subprocess, "check_call", calls.append)
    exec(compile(code, "cell", "exec"), {})
    if not calls:
        return None
    (command,) = calls
    assert command[1:5] == ["-m", "pip", "install", "--quiet"]
    return [word.partition(" @ ")[0] for word in command[5:]]


@pytest.mark.parametrize(
    ("driver", "sees_gpu", "cuda"),
    [
        ("/bin/nvidia-smi", True, []),  # Colab
        ("/bin/nvidia-smi", False, ["tensorflow[and-cuda]"]),
        (None, False, []),
    ],
)
def test_cuda_is_installed_only_where_tensorflow_sees_no_gpu(monkeypatch, driver, sees_gpu, cuda):
    found = installed(monkeypatch, None, driver, sees_gpu)
    assert found == ["tfface[serving,tuning]", *cuda]


def test_nothing_is_installed_where_tfface_is(monkeypatch):
    assert installed(monkeypatch, "spec", "/bin/nvidia-smi", True) is None
