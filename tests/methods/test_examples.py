"""The networks that each method's package exports, and the examples in their docstrings."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tfface.layers import Network
from tfface.methods import METHODS

PACKAGES = {name: importlib.import_module(f"tfface.methods.{name}") for name in METHODS}
EXPORTED = [(method, name) for method, package in PACKAGES.items() for name in package.__all__]


def is_network(value):
    return isinstance(value, type) and issubclass(value, Network) and value is not Network


@pytest.mark.parametrize(("method", "name"), EXPORTED)
def test_docstring_examples_of_exported_networks_run(method, name):
    value = getattr(PACKAGES[method], name)
    assert value.__doc__
    if not is_network(value):
        return
    assert "Example:" in value.__doc__
    (example,) = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("method", METHODS)
def test_every_network_is_exported(method):
    package = PACKAGES[method]
    for file in Path(package.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"{package.__name__}.{file.stem}")
        for name, value in vars(module).items():
            if is_network(value):
                assert name in package.__all__ and getattr(package, name) is value


def test_method_packages_import_tensorflow_lazily():
    code = (
        "import sys\n"
        "from tfface.methods import METHODS, get_config\n"
        "from tfface.methods.sargan import SarganConfig\n"
        "assert all(get_config(name) for name in METHODS)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Generatr'"):
        PACKAGES["sargan"].Generatr  # noqa: B018
