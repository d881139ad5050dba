"""What the pages get when they are built: links, the reference, help texts, cards of models."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import sys
from pathlib import Path
from unittest import mock

from sphinx.util.inspect import stringify_signature

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

# Comments in pages that are replaced.
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
    content[0] = with_links(content[0], folder, app.env.docname)


_SECTION = re.compile(r"^(Args|Attributes|Example|Inputs|Note|Raises|Returns|Yields)s?:$")
_FORMULA = re.compile(r"^\w+ += ")
_CODE = re.compile(r"(`+[^`]+`+)")


def to_rst(app, what, name, thing, options, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: keeps reStructuredText from reading more.

    Asterisks and bars are those of formulas. Before the first section, indented lines and
    paragraphs of the form `name = ...` are formulas.
    """
    found: list[str] = []
    section = formula = False
    for number, line in enumerate(lines):
        section = section or bool(_SECTION.match(line))
        starts = number > 0 and not lines[number - 1].strip()
        if starts and not section:
            indented = line.startswith("    ")
            if (indented or _FORMULA.match(line)) and not formula:
                found += ["::", ""]
            formula = bool(line.strip()) and (indented or bool(_FORMULA.match(line)))
        formula = formula and not section
        if formula:
            found.append(f"    {line}")
        elif line.lstrip().startswith((">>>", "...")) or "://" in line:
            found.append(line)
        else:
            found.append(_escaped(line))
    lines[:] = found


def signature(app, what, name, thing, options, arguments, returned):
    """The arguments of a Keras layer or model, which Keras hides behind (*args, **kwargs)."""
    if what != "class" or arguments != "(*args, **kwargs)":
        return None
    with contextlib.suppress(TypeError, ValueError):
        own = inspect.signature(thing.__init__)
        return stringify_signature(own.replace(parameters=[*own.parameters.values()][1:])), None


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
    app.connect("autodoc-process-signature", signature)
