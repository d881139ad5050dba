"""Format of the committed notebooks; nbmake tests that they run."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
METHODS = {"elegant", "sargan", "mask_guided", "domain_alignment", "seg_hierarchical"}


def cells(path):
    return json.loads(path.read_text())["cells"]


def source(cell):
    return "".join(cell["source"])


def test_every_method_has_a_notebook():
    assert METHODS | {"01_quickstart", "serving", "your_own_data"} <= {p.stem for p in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_empty(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert not cell["metadata"] and "attachments" not in cell
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    local = re.findall(r"(?:/home|/root|/tmp|/work|/Users|[A-Z]:\\\\)[/\w]*", path.read_text())
    assert local == []
    assert "data:image" not in path.read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_share_a_structure(path):
    """A title first, short cells, the same first two code cells, no shell commands."""
    found = cells(path)
    code = [source(cell) for cell in found if cell["cell_type"] == "code"]
    assert source(found[0]).startswith("# ")
    assert code[:2] == [source(c) for c in cells(NOTEBOOKS[0]) if c["cell_type"] == "code"][:2]
    assert all(len(text.splitlines()) <= 21 for text in code)
    assert not any(re.search(r"^\s*[!%]", text, re.M) for text in code)
