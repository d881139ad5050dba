"""The example method of docs/add-a-method.md, extracted from the page, meets the contract."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add-a-method.md"

USE = """
import sys
from pathlib import Path

import tfface
from tfface import demo, edit
from tfface.testing import CHECKS, Case
from tfface.testing.training import eagerly

out = Path(sys.argv[1])
assert Path(tfface.__file__).parents[1] == Path.cwd()
case = Case("stargan", out / "contract")
for check in CHECKS.values():
    check(case)
with eagerly():
    words = ["--method", "stargan", "--preset", "tiny", "--out", str(out / "demo")]
    assert demo.main(words) == 0
tfface.data.images.save_image(tfface.evaluation.synthetic_truth.draw(
    tfface.evaluation.synthetic_truth.held_out(1, 1), 40)[0], out / "face.png")
run, face = str(out / "demo" / "run"), str(out / "face.png")
assert edit.main([run, face, "--expression", "happy", "--out", str(out / "edited")]) == 0
"""


def blocks():
    """Code blocks of the page, by the path or place in the comment on their first line."""
    matches = re.findall(r"^```(?:python|yaml)\n# (.*?)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return {first: text for first, text in matches}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of tfface with the page's files and its one line in METHODS."""
    root = tmp_path_factory.mktemp("with_stargan")
    shutil.copytree(ROOT / "tfface", root / "tfface", ignore=shutil.ignore_patterns("__pycache__"))
    for first, text in blocks().items():
        if first.startswith("in METHODS of "):
            file = root / first.removeprefix("in METHODS of ")
            before, brace, after = file.read_text().partition("METHODS = {\n")
            assert brace and text.count("\n") == 1
            file.write_text(before + brace + text + after)
        else:
            file = root / first
            assert not file.exists()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return root


def run(package, *words):
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, *map(str, words)]
    return subprocess.run(
        words, cwd=package, env=environment, capture_output=True, text=True, timeout=900
    )


@pytest.mark.slow
def test_example_method_passes_the_contract_demo_and_edit(package, tmp_path):
    done = run(package, "-c", USE, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "edited" / "face-happy.png").exists()
    assert "StarGAN: changing an expression" in (tmp_path / "demo" / "report.html").read_text()


def test_help_of_the_example_method_lists_its_options(package):
    done = run(package, "-m", "tfface.train", "stargan", "--help")
    assert done.returncode == 0, done.stderr
    assert "--weights.reconstruction" in done.stdout and "StarGAN (CVPR 2018)" in done.stdout


def test_example_code_passes_ruff(package):
    command = ["-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "tfface/methods/stargan"]
    done = run(package, *command)
    assert done.returncode == 0, done.stdout
    done = run(package, "-m", "ruff", "format", "--check", *command[3:])
    assert done.returncode == 0, done.stdout
