"""Packages import downwards only: lower packages never import higher ones."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tfface"
LEVELS = (
    {"errors", "paths", "progress", "version"},
    {"config", "html"},
    {"cli", "shipped"},
    {"data"},
    {"server"},
    {"client"},  # uses the server's messages
    {"editing", "layers"},
    {"losses", "metrics", "web"},
    {"methods"},
    {"evaluation"},
    {"engine"},
    {"exporting", "tuning"},
    {"testing", "train", "tune", "edit", "evaluate", "serve", "prepare", "prepare_files", "convert",
     "export", "demo", "models", "align", "app"},
)  # fmt: skip
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
COMMANDS = LEVELS[-1] - {"testing"}
# Commands that import each other.
BETWEEN_COMMANDS = {("demo", "train"), ("tune", "train"), ("tune", "evaluate"),
                    ("prepare", "prepare_files")}  # fmt: skip


def modules():
    return {p.relative_to(PACKAGE.parent): p for p in sorted(PACKAGE.rglob("*.py"))}


def imports(path, typed=False):
    """Modules of tfface that a file imports; includes imports for type checkers if `typed`."""
    tree = ast.parse(path.read_text())
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in
              ast.unparse(n.test)]  # fmt: skip
    unused = {child for node in typing for child in ast.walk(node)}
    for node in ast.walk(tree):
        if node in unused and not typed:
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("tfface."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfface":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                file = PACKAGE.parent / full.replace(".", "/")
                there = file.with_suffix(".py").exists() or (file / "__init__.py").exists()
                yield full if there else node.module


def part(name):
    """The part of tfface that a module belongs to; "" is tfface itself."""
    return [*name.split("."), ""][1]


def of(relative):
    return part(".".join(relative.with_suffix("").parts).removesuffix(".__init__"))


@pytest.mark.parametrize("relative", modules(), ids=str)
def test_imports_go_downwards(relative):
    here = of(relative)
    if not here:
        return  # tfface itself re-exports higher packages
    for name in imports(modules()[relative]):
        there = part(name)
        if not there or there == here or (here, there) in BETWEEN_COMMANDS:
            continue
        assert LEVEL[there] < LEVEL[here], f"{relative} imports {name}, which is not below it"


def test_client_and_server_do_not_import_methods():
    allowed = {"errors", "paths", "progress", "version", "config", "cli", "data", "server"}
    for relative, path in modules().items():
        here = of(relative)
        if here in ("client", "server"):
            found = {part(name) for name in imports(path)} - {here, ""}
            assert found <= allowed, f"{relative} imports {sorted(found - allowed)}"


def test_every_module_has_a_level():
    assert {of(relative) for relative in modules()} - {""} <= set(LEVEL)


def test_methods_do_not_import_each_other():
    folder = PACKAGE / "methods"
    for path in sorted(folder.glob("*/*.py")):
        for name in imports(path):
            parts = name.split(".")
            own = parts[1] != "methods" or len(parts) < 4 or parts[2] == path.parent.name
            assert own, f"{path.relative_to(PACKAGE)} imports {name}"


def test_there_are_no_cycles():
    """Within a method, imports for type checkers count as well."""
    names = {
        ".".join(r.with_suffix("").parts).removesuffix(".__init__"): path
        for r, path in modules().items()
    }
    arrows = {}
    for name, path in names.items():
        found = imports(path, typed="methods" in path.parts)
        arrows[name] = {n for n in found if n in names} - {name}
    del arrows["tfface"]
    while arrows:
        ends = {name for name, to in arrows.items() if not to & arrows.keys()}
        assert ends, f"a cycle among {sorted(arrows)}"
        arrows = {name: to for name, to in arrows.items() if name not in ends}
