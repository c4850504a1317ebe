"""How Sphinx builds the site; `launch/docs.sh` calls it."""

import sys
from pathlib import Path

from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from generate import write_all  # noqa: E402
from generate.docstrings import as_rst  # noqa: E402

from dist_vgg import __version__  # noqa: E402

ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")

project = "dist_vgg"
author = "the dist_vgg developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
nitpicky = True
# Types in signatures are not documented here, and there may be no network to look them up.
nitpick_ignore_regex = [("py:.*", ".*")]

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3

autodoc_mock_imports = ["onnx", "starlette", "torch", "uvicorn"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80

# A module has one name in viewcode, so the package's own names for what rooms define get no source.
viewcode_follow_imported_members = False

html_theme = "furo"
html_title = "dist_vgg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
pygments_style = "tango"
pygments_dark_style = "github-dark"


def plain_docstrings(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain text, not reStructuredText; a module's own is on its page already."""
    lines[:] = [] if what == "module" else as_rst(lines)


def short_types(
    app: Sphinx,
    what: str,
    name: str,
    thing: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Numpy's ArrayLike stays a word, where Sphinx would write out all that it stands for."""
    return (signature.replace(ARRAY_LIKE, "ArrayLike"), returns) if signature else None


def setup(app: Sphinx) -> None:
    """Write what is generated, before any page is read."""
    app.connect("autodoc-process-signature", short_types)
    app.connect("autodoc-process-docstring", plain_docstrings)
    write_all()
