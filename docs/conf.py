"""Sphinx configuration: `make docs` builds this folder to build/docs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["COLUMNS"] = "100"  # Width of the help texts.

from tfface.version import __version__  # noqa: E402

project, author = "tfface", "The tfface authors"
copyright = author  # noqa: A001
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "_pages",
]
html_theme = "furo"
html_title = f"tfface {__version__}"
exclude_patterns = ["_build"]
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
default_role = "py:obj"  # A name in backticks is a link if the reference has it, code otherwise.
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 100
add_module_names = False
