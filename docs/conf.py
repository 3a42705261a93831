"""Sphinx settings of the documentation. `make docs` builds it: warnings are errors, nothing is fetched."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from r2star import __version__  # noqa: E402

logging.getLogger("traitlets").setLevel(logging.WARNING)

project = "r2star"
author = "The r2star developers"
copyright = "The r2star developers"  # noqa: A001
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "streams",  # after myst_nb, part of which it mends
    "mathml",  # formulas as MathML: no script, no font, no network
    "generated",  # pages made from the code
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages; links that people wrote are checked
default_role = "code"
smartquotes = False  # "--option" stays as it is typed
suppress_warnings = ["mystnb.unknown_mime_type", "myst-nb.lexer"]

# Markdown
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Tutorials run when the pages are built. DOCS_EXECUTE=off leaves that out while one writes.
nb_execution_mode = os.environ.get("DOCS_EXECUTE", "force")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_execution_show_tb = True

# API
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("Array", "ArrayLike", "FloatMap", "Floats", "NDArray")}
napoleon_google_docstring = False
napoleon_use_rtype = False

# Pages
html_theme = "furo"
html_title = f"r2star {release}"
html_static_path = ["_static"]
html_css_files = ["r2star.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
templates_path: list[str] = []
