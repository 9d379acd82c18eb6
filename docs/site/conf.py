"""The site: README, docs/ and the committed results, and a reference from the docstrings.

The sources lie where GitHub shows them, so links between them work in both places.
"""

from __future__ import annotations

import importlib.metadata
import re

from sphinx.application import Sphinx

project = "neuraxis"
author = "the developers of neuraxis"
copyright = author
release = importlib.metadata.version("neuraxis")
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "docs/*.rst",
    "benchmarks/results/*.md",
]
html_extra_path = ["start"]  # leads from the root of the site to `root_doc`
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
copybutton_exclude = ".linenos, .gp, .go"
html_theme = "furo"
html_title = "neuraxis"


def _as_rst(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings have `code` and shapes like [T,B,*], which mean something else to Sphinx."""
    for number, line in enumerate(lines):
        parts = re.split(r"`([^`]+)`", line)
        parts[::2] = [text.replace("*", r"\*") for text in parts[::2]]
        parts[1::2] = [f"``{code}``" for code in parts[1::2]]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_rst, priority=400)  # napoleon comes after it
