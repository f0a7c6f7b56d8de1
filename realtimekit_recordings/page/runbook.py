"""The runbook, docs/operations.md, as a page."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from markdown_it import MarkdownIt

# The package brings a copy (pyproject.toml); a checkout has the original.
_PLACES = (
    Path(__file__).with_name("operations.md"),
    Path(__file__).parents[2] / "docs" / "operations.md",
)


@functools.cache
def runbook_html() -> str:
    """Return the runbook as HTML, each heading with the id by which GitHub links to it."""
    source = next((path.read_text(encoding="utf-8") for path in _PLACES if path.exists()), "")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(source)
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(tokens[index + 1].content))
        for child in token.children or ():
            # The other documents are not here.
            href = str(child.attrGet("href") or "")
            if child.type == "link_open" and not href.startswith(("#", "https://")):
                child.attrs.pop("href")
    rendered: str = markdown.renderer.render(tokens, markdown.options, {})
    return rendered


def slug(heading: str) -> str:
    """Return a heading's id as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
