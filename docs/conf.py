"""The documentation site: Sphinx with MyST; `make docs` builds it.

The pages are Markdown that also reads well on GitHub, and the API reference is made of docstrings.
Docstrings here are Markdown too, with Google's sections; `_as_rest` marks their code for Sphinx.
"""

import ast
import os
import re
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

import deepconv

SOURCE = Path(__file__).parents[1] / "src"

project = "deepconv"
author = "The deepconv authors"
version = release = deepconv.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "results"]

myst_heading_anchors = 3  # the anchors that GitHub gives headings
myst_enable_extensions = ["colon_fence"]
# A notebook is executed once, and again when it changes.
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # progress bars and logs

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"deepconv {version}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

linkcheck_anchors = False  # GitHub's are made by scripts

# XLA would report every compilation of the notebooks.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_PROSE = re.compile(r"`(?P<code>[^`]+)`(?P<joined>(?=\w))?|[|*\\]")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")


def _language(paragraph: list[str]) -> str | None:
    """Return the language of a docstring's paragraph that is code, or None if it is prose."""
    indented = all(line.startswith("    ") for line in paragraph)
    code = textwrap.dedent("\n".join(paragraph))
    if code.startswith(("deepconv ", "make ", "python -m ")):
        return "sh"
    try:
        statements = ast.parse(code).body
    except SyntaxError:
        return "text" if indented else None
    # A single word of prose is a Python expression too.
    words = all(
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name | ast.Constant)
        for statement in statements
    )
    return "python" if indented or not words else None


def _escaped(found: re.Match[str]) -> str:
    """Return what Markdown calls code, or a character that means something in Sphinx only."""
    if found["code"] is None:
        return "\\" + found[0]
    return f"``{found['code']}``" + ("" if found["joined"] is None else "\\ ")


def _as_rest(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Mark the code in a docstring, before napoleon reads its sections."""
    # Of an attribute's first line, napoleon takes what precedes a colon for its type; an empty
    # comment before it has none.
    marked = ["..", ""] if kind in ("attribute", "data", "property") else []
    in_sections = False
    for part in "\n".join(lines).strip("\n").split("\n\n"):
        paragraph = part.splitlines()
        in_sections = in_sections or any(map(_SECTION.match, paragraph[:1]))
        language = None if in_sections or not paragraph else _language(paragraph)
        if language:
            marked += [f".. code-block:: {language}", ""]
            paragraph = [f"   {line}" for line in paragraph]
        else:
            paragraph = _PROSE.sub(_escaped, part).splitlines()
        marked += [*paragraph, ""]
    lines[:] = marked


def _skip(app: Sphinx, kind: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples: their class's docstring describes them."""
    return True if type(thing).__name__ == "_tuplegetter" else None


class ToSource(SphinxTransform):
    """Turn links to modules under `src/`, which GitHub shows, into links to the site's copies."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Replace the links of one page."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        for node in list(self.document.findall(addnodes.download_reference)):
            path = Path(os.path.normpath(here / node["reftarget"].lstrip("/")))
            if path.suffix != ".py" or SOURCE not in path.parents:
                continue
            page = path.relative_to(SOURCE).with_suffix("").as_posix().removesuffix("/__init__")
            above = "../" * self.env.docname.count("/")
            link = nodes.reference(
                "", "", *node.children, internal=True, refuri=f"{above}_modules/{page}.html"
            )
            node.replace_self(link)


def _folder(app: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.Node) -> Any:
    """Show a link to a folder of the checkout, which the site does not have, as text."""
    folder = Path(env.doc2path(node["refdoc"])).parent / node["reftarget"]
    return text if folder.is_dir() else None


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", _as_rest, priority=400)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _folder)
    app.add_transform(ToSource)
