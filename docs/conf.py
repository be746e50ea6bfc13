"""How `make docs` builds these pages. Nothing is fetched from the network."""

from __future__ import annotations

import re
from typing import Any

import domindex

project = "domindex"
author = "The domindex developers"
project_copyright = author
release = version = domindex.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Pages are plain Markdown, which reads as well without a build. Only the list of pages in index.md
# and the reference use directives.
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Docstrings are in Google form, with one section of our own. Between single backticks they name
# things: those that are in the reference become links, all others are code.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Cost"]
napoleon_use_ivar = True
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
add_module_names = False
python_use_unqualified_type_names = True

# Strict: a link that leads nowhere is an error. What Python itself and private helpers define has
# no page here.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:class", r"(?!domindex\.[A-Z]).*"),
    ("py:exc", r".*"),
]

suppress_warnings = ["ref.python"]  # a field that several records have, such as `type`

html_theme = "furo"
html_title = f"domindex {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "native"

_ORDER = re.compile(r"Read after ")
_INDEX = re.compile(r"(?<!`)`Index\.")  # a name of another module: a dot before it finds it
_TABLE = re.compile(r"\s*\|.*\|\s*$")


def markdown_to_rst(
    _app: Any, what: str, _name: str, _thing: Any, _: Any, lines: list[str]
) -> None:
    """Docstrings are written for `help()`: turn their tables and indented code into RST."""
    if what == "module" and (order := [n for n, line in enumerate(lines) if _ORDER.match(line)]):
        del lines[order[0] :]  # it comes last, and is for those who read the code
    done: list[str] = []
    lines[:] = [_INDEX.sub("`.Index.", line) for line in lines]
    for number, line in enumerate(lines):
        if _TABLE.match(line):
            done += _table_row(line, first=not _TABLE.match(lines[number - 1]) or not number)
            continue
        if done and _TABLE.match(lines[number - 1]):
            done.append("")
        before = done[-2] if len(done) > 1 else ""
        code = line.startswith("    ") and done and not done[-1].strip() and what == "module"
        if code and before and not before.startswith(" ") and not before.endswith("::"):
            done += ["::", ""]
        done.append(line)
    lines[:] = done


def _table_row(line: str, *, first: bool) -> list[str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if set("".join(cells)) <= set("-"):
        return []
    head = [".. list-table::", "   :header-rows: 1", ""] if first else []
    return [*head, *(f"   {'*' if not n else ' '} - {cell}" for n, cell in enumerate(cells))]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", markdown_to_rst)
