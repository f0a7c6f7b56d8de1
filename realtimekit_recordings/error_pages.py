"""Error pages that come instead of a file, with a status that says all is well."""

from __future__ import annotations

import re

# Types that no storage gives to a recording, and error pages have.
_TYPES = re.compile(r"text/html|application/xhtml\+xml|(application|text)/(problem\+)?(json|xml)")


def error_page(content_type: str, start: bytes) -> str | None:
    """Return what an answer is, in words, if its type or its first bytes are an error page's."""
    said = content_type.partition(";")[0].strip().lower()
    if _TYPES.fullmatch(said):
        return f"an answer of the type {said}"
    begin = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin[:1] in (b"<", b"{"):
        return "an error page"
    return None
