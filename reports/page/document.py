"""One HTML document in one file: templates filled in, styles and scripts inlined, the network forbidden."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

_FOLDER = "vbench.reports.page"
_BREAKS = re.compile(r"([,/])(?=\S)")
#: Files of every page, in this order; :func:`document` adds those of one page.
STYLES = ("base.css", "table.css")
SCRIPTS = ("table.js", "filter.js")


def document(template: str, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any) -> str:
    """Fill ``templates/<template>``; it extends ``base.html.j2``. Values are always escaped.

    ``styles`` and ``scripts`` are files of ``templates/`` added to those of every page. They are inlined
    unchanged and allowed by their hash in the content security policy, so that nothing else runs, not even an
    attribute, and nothing is fetched. Raises ``jinja2.UndefinedError`` for a value that is missing.
    """
    style = "\n".join(_source(name) for name in (*STYLES, *styles))
    script = "\n".join(_source(name) for name in (*SCRIPTS, *scripts))
    return (
        _environment()
        .get_template(template)
        .render(policy=policy(style, script), style=Markup(style), script=Markup(script), **values)
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this one style sheet and this one script."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def embed_json(value: object) -> Markup:
    """JSON for a ``<script type="application/json">`` element, which no text in it can end."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


# Black becomes light, and the grey of grids dark; colours that a figure sets otherwise stay.
_DARK = """<style>@media screen and (prefers-color-scheme: dark) {
text:not([style*="fill:"]) { fill: #e7ebef; }
text[style*="fill: #666666"] { fill: #a3afba !important; }
[style*="stroke: #000000"] { stroke: #e7ebef !important; }
[style*="fill: #000000"]:not(text) { fill: #e7ebef !important; }
[style*="stroke: #dddddd"] { stroke: #323d48 !important; }
}</style>"""


def picture(svg: str) -> str:
    """An SVG as a data URL of an image: its styles and ids are isolated, and it can run and load nothing."""
    start = svg.index(">") + 1
    svg = svg[:start] + _DARK + svg[start:]
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def breakable(text: str) -> Markup:
    """Text in which a line may break at commas and slashes."""
    return Markup(_BREAKS.sub(r"\1<wbr>", str(escape(text))))


def _digest(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


@cache
def _source(name: str) -> str:
    return files(_FOLDER).joinpath("templates").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    made.filters["embed_json"] = embed_json
    made.filters["picture"] = picture
    return made
