"""`make package`: builds the distributions, checks them, and uses the wheel like a stranger.

A new environment gets the wheel; from a folder outside of the checkout it draws a face and edits it
with a shipped model. Needs a package registry. Anything missing ends it with a non-zero status.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD, DIST = ROOT / "build" / "package", ROOT / "dist"
MODEL = "sargan/faces64"

INSTALLED = """
import json
from pathlib import Path

import tfface
from tfface.config import presets
from tfface.methods import METHODS
from tfface.shipped import shipped

folder = Path(tfface.__file__).parent
print(json.dumps({
    "folder": str(folder),
    "version": tfface.__version__,
    "typed": (folder / "py.typed").exists(),
    "models": sorted(shipped()),
    "cards": [name for name, path in shipped().items() if (path / "README.md").exists()],
    "presets": {name: sorted(presets(name)) for name in METHODS},
}))
"""


def run(*words, cwd=ROOT):
    """Runs a command, without the checkout on Python's path; returns its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed with status {done.returncode}: {' '.join(done.args)}")
    return done.stdout


def environment(name, *packages):
    """A new virtual environment with some packages; returns its folder of programs."""
    folder = BUILD / name
    venv.create(folder, clear=True, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages)
    return folder / "bin"


def expected_files():
    """Files of the package that git has, or would take."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "tfface")
    return {line for line in listed.splitlines() if (ROOT / line).exists()}


def check(condition, message):
    """Ends with a message unless the condition holds."""
    if not condition:
        sys.exit(f"make package: {message}")


def check_distributions():
    """Builds the sdist, and from it the wheel; returns the wheel."""
    tools = environment("tools", "build", "twine")
    for old in DIST.glob("tfface-*"):
        old.unlink()
    run(tools / "python", "-m", "build", "--outdir", DIST)
    wheels, sources = list(DIST.glob("tfface-*.whl")), list(DIST.glob("tfface-*.tar.gz"))
    check(len(wheels) == len(sources) == 1, f"expected a wheel and an sdist in {DIST}")
    run(tools / "twine", "check", "--strict", *wheels, *sources)
    expected = expected_files()
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
        missing = sorted(expected - names)
        check(not missing, f"not in the wheel: {', '.join(missing)}")
        more = {n for n in names - expected if ".dist-info/" not in n}
        check(not more, f"in the wheel, but not of the project: {', '.join(sorted(more))}")
        check(any(n.endswith("LICENSE") for n in names), "the wheel has no LICENSE")
    with tarfile.open(sources[0]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
        missing = sorted((expected | {"setup.py", "README.md", "LICENSE"}) - names)
        check(not missing, f"not in the sdist: {', '.join(missing)}")
    return wheels[0]


def check_installed(wheel):
    """Installs the wheel, and edits a face with it."""
    programs = environment("fresh", wheel)
    with tempfile.TemporaryDirectory() as outside:
        found = json.loads(run(programs / "python", "-c", INSTALLED, cwd=outside))
        check(Path(found["folder"]).is_relative_to(BUILD), f"imported {found['folder']}")
        check(found["typed"], "py.typed is missing")
        here = sorted(
            f"{p.parents[2].name}/{p.parent.name}"
            for p in ROOT.glob("tfface/methods/*/models/*/config.yaml")
        )
        check(found["models"] == here, f"models {found['models']}: expected {here}")
        check(set(found["cards"]) == set(here), f"cards of {found['cards']}: expected {here}")
        for method, names in found["presets"].items():
            files = ROOT.glob(f"tfface/methods/{method}/presets/*.yaml")
            check(names == sorted(f.stem for f in files), f"presets of {method}: {names}")
        tfface = programs / "tfface"
        check(run(tfface, "--version", cwd=outside).strip() == found["version"], "another version")
        run(tfface, "prepare", "faces", "--out", "faces", "--count", "1", cwd=outside)
        face = Path("faces", "face-0000.png")
        run(tfface, "edit", MODEL, face, "--expression", "happy", "--out", "edited", cwd=outside)
        edited = Path(outside, "edited", "face-0000-happy.png")
        check(edited.exists(), f"{MODEL} wrote no image")
        same = edited.read_bytes() == Path(outside, face).read_bytes()
        check(not same, f"{MODEL} changed nothing")
    print(f"{wheel.name}: {', '.join(found['models'])}; tfface {found['version']}")


def main():
    """Builds and checks."""
    start = time.monotonic()
    check_installed(check_distributions())
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
