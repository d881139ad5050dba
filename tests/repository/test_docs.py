"""The documentation: links, examples, pages for everything; without network."""

import importlib.util
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from image_files import write_image

from tfface.config import Data
from tfface.errors import UserError
from tfface.methods import METHODS
from tfface.version import __version__

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FILES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "serving" / "README.md",
        ROOT / "tuning" / "README.md",
        *DOCS.rglob("*.md"),
        *ROOT.glob("tfface/methods/*/README.md"),
        *ROOT.glob("tfface/methods/*/models/*/README.md"),
    }
)
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
FENCE = re.compile(r"^```.*?^```[ \t]*$", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
RUN = re.compile(r"^<!-- run -->\n```python\n(.*?)^```$", re.M | re.S)
INCLUDE = re.compile(r"^```\{include\} (\S+)", re.M)


def prose(path):
    return FENCE.sub("", path.read_text())


def anchors(path):
    """The anchors that GitHub gives the headings of a file."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.*)$", prose(path), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        while slug in found:
            slug, number = f"{slug.rsplit('-', 1)[0] if number > 1 else slug}-{number}", number + 1
        found.add(slug)
    return found


def links(path):
    """Targets of the links and images of a file, without those of other sites."""
    found = LINK.findall(CODE.sub("", prose(path)))
    found += [name for name in INCLUDE.findall(path.read_text())]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_links_lead_to_files_and_headings(path):
    for link in links(path):
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


def test_anchors_are_those_of_github(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("# `a_b`, [c](d.md)!\n## Same\n```\n# no heading\n```\n## Same\n## Same\n")
    assert anchors(file) == {"a_b-c", "same", "same-1", "same-2"}


def test_broken_links_are_found(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("[a](b.md#c) ![d](e.png) `[x](y)` [f](https://g.org)\n```\n[h](i)\n```\n")
    assert links(file) == ["b.md#c", "e.png"]


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for page in [DOCS / "index.md", DOCS / "api" / "index.md"]:
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(), re.M | re.S):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    listed |= set(page.parent.glob(f"{line}.md"))
    assert set(DOCS.rglob("*.md")) - {DOCS / "index.md"} == listed


def test_every_method_has_a_page_with_its_card():
    pages = {page.stem: INCLUDE.findall(page.read_text()) for page in DOCS.glob("methods/*.md")}
    assert pages == {name: [f"../../tfface/methods/{name}/README.md"] for name in METHODS}


def test_modules_of_the_reference_exist():
    for page in DOCS.rglob("*.md"):
        for names in re.findall(r"<!-- reference: (.*?) -->", page.read_text()):
            for name in names.split():
                path = ROOT.joinpath(*name.removesuffix(".*").split("."))
                exists = path.is_dir() or (path.with_suffix(".py").exists() and name[-1] != "*")
                assert exists, f"{page.name}: there is no module {name}"


def test_the_drawing_names_every_package():
    source = (ROOT / "tests" / "repository" / "test_architecture.py").read_text()
    levels = re.search(r"^LEVELS = \((.*?)^\)", source, re.M | re.S)[1]
    drawn = re.findall(r"[a-z_]+", re.sub(r"<[^>]*>", " ", (DOCS / "architecture.svg").read_text()))
    packages = {n for n in re.findall(r'"(\w+)"', levels) if n != "prepare_files"}
    assert packages <= set(drawn) and set(METHODS) <= set(drawn)


EXAMPLES = [
    (str(path.relative_to(ROOT)), number, code)
    for path in FILES
    for number, code in enumerate(RUN.findall(path.read_text()))
]


def test_there_are_examples():
    assert {"docs/quickstart.md", "docs/layers.md"} <= {name for name, _, _ in EXAMPLES}


@pytest.mark.parametrize(("name", "code"), [(n, c) for n, _, c in EXAMPLES],
                         ids=[f"{n}-{i}" for n, i, _ in EXAMPLES])  # fmt: skip
def test_examples_run(name, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {"__name__": "example"})


PAGE = DOCS / "add-a-data-set.md"


def blocks():
    """First line of each block of Python, without the comment sign, to the block."""
    return dict(re.findall(r"^```python\n# (.*?)\n(.*?)^```$", PAGE.read_text(), re.M | re.S))


@pytest.fixture
def csv_file(tmp_path, monkeypatch):
    """The reader of docs/add-a-data-set.md, registered; returns a data set for it."""
    import tfface.data

    file = tmp_path / "csv_file.py"
    file.write_text(blocks()["tfface/data/csv_file.py"])
    spec = importlib.util.spec_from_file_location("tfface.data.csv_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "tfface.data.csv_file", module)
    lines = blocks()["in SOURCES of tfface/data/__init__.py"]
    for name, where in re.findall(r'"(\w+)": "(.*)"', lines):
        monkeypatch.setitem(tfface.data.SOURCES, name, where)
    folder = tmp_path / "faces"
    folder.mkdir()
    rows = ["image,expression,split"]
    for i in range(12):
        write_image(folder / f"{i}.png", i)
        split = {9: "val", 10: "test", 11: "test"}.get(i, "train")
        rows.append(f"{i}.png,{'happy' if i % 2 else 'sad'},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_the_data_set_of_the_page_can_be_read(csv_file):
    from tfface.data import open_source

    data = Data(name="csv", path=str(csv_file), size=32)
    source = open_source(data)
    assert source.classes == ("happy", "sad")
    assert [source.count(split) for split in ("train", "val", "test")] == [9, 1, 2]
    (batch,) = source.batches("train", 9)
    assert batch["expression"].numpy().tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert batch["image"].shape == (9, 32, 32, 3)
    first, second = (next(iter(source.batches("train", 4, seed=1, start=3))) for _ in range(2))
    assert (first["image"].numpy() == second["image"].numpy()).all()
    assert open_source(data, classes=("sad",)).count("train") == 5
    for wrong in ({"classes": ("angry",)}, {"attributes": ("Bangs",)}):
        with pytest.raises(UserError, match=r"labels\.csv"):
            open_source(data, **wrong)
    (csv_file / "labels.csv").write_text("image,split\n")
    with pytest.raises(UserError, match="expected columns"):
        (csv_file / "labels.csv").write_text("image,split\n0.png,train\n")
        open_source(data)


def test_the_lines_of_the_page_fit_their_files():
    name = next(iter(re.findall(r'"(\w+)":', blocks()["in SOURCES of tfface/data/__init__.py"])))
    line = blocks()["in Data of tfface/config/groups.py"]
    before = line.replace(f', "{name}"', "")
    assert before != line and before in (ROOT / "tfface" / "config" / "groups.py").read_text()
    assert "SOURCES = {\n" in (ROOT / "tfface" / "data" / "__init__.py").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_a_method_trains_on_the_data_set_of_the_page(csv_file, tmp_path):
    from tfface.config import from_preset, replace
    from tfface.methods import get_config, get_method

    config = from_preset("sargan", get_config("sargan"), "tiny", {"train.steps": 2})
    config = replace(config, {"data.path": str(csv_file)})
    object.__setattr__(config.data, "name", "csv")
    from tfface.engine.run import Run
    from tfface.engine.trainer import Trainer

    method, source = get_method("sargan").open(config)
    run = Run.create("sargan", method.config, str(tmp_path / "run"))
    assert Trainer(method, source, run).train() == 2


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == __version__ and citation["license"] == "MIT"
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]


def test_the_changelog_has_this_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] in ("Unreleased", "[Unreleased]")
    assert any(h.strip("[]").startswith(__version__) for h in headings[1:])
