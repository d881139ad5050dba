"""Sphinx configuration: `make docs` builds this folder to build/docs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from unittest import mock

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["COLUMNS"] = "100"  # Width of the help texts.

from tfface.version import __version__  # noqa: E402

project, author = "tfface", "The tfface authors"
copyright = author  # noqa: A001
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"tfface {__version__}"
exclude_patterns = ["_build"]
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_heading_anchors = 4
default_role = "py:obj"  # A name in backticks is a link if the reference has it, code otherwise.
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 100
add_module_names = False

# Pages that show a file of the repository, besides those with an `include`.
COMMANDS = "<!-- commands -->"
CARDS = "<!-- cards of shipped models -->"
_REFERENCE = re.compile(r"<!-- reference: (.*?) -->")
_FIRST = ["networks", "losses", "config", "method", "serving"]
_SUBCOMMAND = re.compile(r"^    (\w+)", re.M)
_INCLUDE = re.compile(r"^```\{include\} (\S+)", re.M)
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(?=[)\s])")
_FENCE = re.compile(r"^(```.*?^```[ \t]*$)", re.M | re.S)


def cards() -> list[Path]:
    """The cards of the models that come with tfface."""
    return sorted(ROOT.glob("tfface/methods/*/models/*/README.md"))


def pages_of_files() -> dict[Path, str]:
    """Files of the repository to the pages that show them."""
    found = {ROOT / "README.md": "index"} | {card: "models" for card in cards()}
    for page in DOCS.rglob("*.md"):
        for name in _INCLUDE.findall(page.read_text()):
            found[(page.parent / name).resolve()] = str(page.relative_to(DOCS).with_suffix(""))
    return found


PAGES = pages_of_files()


def with_links(text: str, folder: Path, docname: str) -> str:
    """Text whose relative links, seen from `folder`, are as they must be on a page.

    A file that a page shows becomes a link to the page; any other one stays a link to the file,
    which Sphinx offers for download.
    """
    here = (DOCS / docname).parent

    def replace(link: re.Match) -> str:
        target = (folder / link[2]).resolve()
        if target.is_dir():
            target /= "README.md"
        if target in PAGES:
            target = DOCS / f"{PAGES[target]}.md"
        return f"{link[1]}{os.path.relpath(target, here)}{link[3] or ''}"

    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(replace, part) for part in parts[::2]]
    return "".join(parts)


def read_page(app, docname: str, content: list[str]) -> None:
    """Links of a page; and the cards of shipped models, a section each."""
    page = app.env.doc2path(docname)
    if not str(page).endswith(".md"):
        return
    content[0] = with_links(content[0], Path(page).parent, docname)
    content[0] = content[0].replace(CARDS, "\n\n".join(map(_include, cards())))
    content[0] = content[0].replace(COMMANDS, _commands())
    content[0] = _REFERENCE.sub(lambda found: _reference(found[1].split()), content[0])


def _include(card: Path) -> str:
    return f"```{{include}} {os.path.relpath(card, DOCS)}\n:heading-offset: 1\n```"


def _help(words: list[str]) -> str:
    """What `tfface WORDS --help` prints."""
    from tfface import cli

    text = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["tfface", *words, "--help"]),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        cli.main()
    return text.getvalue()


def _commands() -> str:
    from tfface.cli import VERBS
    from tfface.methods import METHODS

    sections = []
    for verb in VERBS:
        text = _help([verb])
        inner = _SUBCOMMAND.findall(text) if verb in ("prepare", "convert") else []
        sections.append(f"## `tfface {verb}`\n\n```text\n{text}\n```")
        for word in METHODS if verb == "train" else inner:
            text = _help([verb, word])
            sections.append(f"### `tfface {verb} {word}`\n\n```text\n{text}\n```")
    return "\n\n".join(sections)


def _reference(names: list[str]) -> str:
    """A section for each module; "PACKAGE.*": all modules in the package's folder."""
    modules: list[str] = []
    for name in names:
        package = ROOT.joinpath(*name.removesuffix(".*").split("."))
        files = sorted(package.glob("*.py")) if name.endswith(".*") else []
        stems = [f.stem for f in files if f.stem != "__init__"]
        stems.sort(key=lambda stem: _FIRST.index(stem) if stem in _FIRST else len(_FIRST))
        modules += [f"{name[:-1]}{stem}" for stem in stems] or [name]
    sections = []
    for name in modules:
        options = ["members"]
        if name == "tfface.client":  # What both clients can do is in a common base class.
            options += ["inherited-members"]
        lines = [f".. automodule:: {name}", *(f"   :{option}:" for option in options)]
        block = "\n".join(lines)
        sections.append(f"## `{name}`\n\n```{{eval-rst}}\n{block}\n```")
    return "\n\n".join(sections)


def read_included(app, path: Path, _: str, content: list[str]) -> None:
    """Links of a file of the repository that a page includes."""
    folder = (DOCS / path).resolve().parent
    content[0] = with_links(content[0], folder, app.env.current_document.docname)


_SECTION = re.compile(r"^(Args|Attributes|Example|Inputs|Note|Raises|Returns|Yields)s?:$")
_CODE = re.compile(r"(`+[^`]+`+)")


def to_rst(app, what, name, thing, options, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: keeps reStructuredText from reading more.

    Asterisks and bars are those of formulas, and indented lines are formulas.
    """
    found: list[str] = []
    section = formula = False
    for number, line in enumerate(lines):
        section = section or bool(_SECTION.match(line))
        indented = line.startswith("    ") and not section
        if indented and not formula and not lines[number - 1].strip():
            found += ["::", ""]
        if line.strip():
            formula = indented
        raw = formula or line.lstrip().startswith((">>>", "...")) or "://" in line
        found.append(line if raw else _escaped(line))
    lines[:] = found


def _escaped(line: str) -> str:
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"(?<!\\)[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    argument = re.match(r"^(\s*)((?:\\\*)+)(\w+:.*)", "".join(parts))
    if argument:  # `*args:` is a name, which napoleon escapes.
        return argument[1] + argument[2].replace("\\", "") + argument[3]
    return "".join(parts)


def setup(app) -> None:
    """Connects all of the above."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    app.connect("autodoc-process-docstring", to_rst, priority=400)
