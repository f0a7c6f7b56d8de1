"""Reading a request's query, ids and body; what cannot be read is refused as RealtimeKit would."""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import abort, request
from werkzeug.datastructures import MultiDict

from .world import Undocumented

Item = TypeVar("Item")

CODECS = {"audio_config": ("AAC", "MP3"), "video_config": ("H264", "VP8", "VP9")}
CONFIG_OBJECTS = (*CODECS, "interactive_config", "realtimekit_bucket_config", "storage_config")


class Query:
    """A list request's parameters, by RealtimeKit's names. Each reader answers 400 if malformed."""

    def __init__(self, arguments: MultiDict[str, str]) -> None:
        self._arguments = arguments

    def text(self, name: str) -> str:
        """The parameter, or the empty string; `page_no=` is as good as none."""
        return self._arguments.get(name, "")

    def number(self, name: str, default: int) -> int:
        """A whole number of 0 or more; the SDK writes 1.0 for it."""
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1
        if value < 0 or not value.is_integer():
            abort(400, f"{name} must be a number of 0 or more")
        return int(value)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """One of the allowed words."""
        text = self.text(name)
        if text and text not in allowed:
            abort(400, f"{name} must be one of {', '.join(allowed)}")
        return text or None

    def choices(self, name: str, allowed: Sequence[str]) -> list[str]:
        """Any of the allowed words, by commas as documented or repeated as the SDK does."""
        words = [word for text in self._arguments.getlist(name) for word in text.split(",") if word]
        if not set(words) <= set(allowed):
            abort(400, f"{name} must be of {', '.join(allowed)}")
        return words

    def flag(self, name: str) -> bool | None:
        """A boolean."""
        text = self.choice(name, ("true", "false"))
        return None if text is None else text == "true"

    def identifier(self, name: str) -> str | None:
        """A UUID."""
        text = self.text(name)
        return identifier(text, name) if text else None

    def time(self, name: str) -> datetime | None:
        """A time in ISO 8601; UTC if it does not say."""
        text = self.text(name)
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            abort(400, f"{name} must be a time in ISO format")
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    def page(self, items: Sequence[Item], rules: Undocumented) -> tuple[list[Item], dict[str, int]]:
        """The page of the items that is asked for, and its `paging`: offsets from 1, inclusive."""
        asked = self.number("per_page", rules.default_per_page)
        if rules.refused_per_page is not None and asked > rules.refused_per_page:
            abort(400, f"per_page must be {rules.refused_per_page} or less")
        size = min(asked, rules.max_per_page)
        page = max(self.number("page_no", rules.first_page) - rules.first_page, 0)
        start = page * size
        found = list(items[start : start + size])
        offsets = (start + 1, start + len(found)) if found else (0, 0)
        total = len(items)
        return found, {"total_count": total, "start_offset": offsets[0], "end_offset": offsets[1]}


def identifier(text: str, name: str) -> str:
    """A UUID in its usual form; 400 if it is none (what RealtimeKit answers is not documented)."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        abort(400, f"{name} must be a UUID")


def body() -> dict[str, Any]:
    """The request's JSON object; 400 if it is none."""
    content = request.get_json(silent=True)
    if not isinstance(content, dict):
        abort(400, "the body must be a JSON object")
    return content


def validated_config(config: Any) -> dict[str, Any]:
    """A recording configuration whose parts are what the OpenAPI says; else 422, as is seen."""
    if not isinstance(config, dict):
        abort(422, '"recording_config" must be an object')
    for name in CONFIG_OBJECTS:
        if not isinstance(config.get(name), dict | None):
            abort(422, f'"{name}" must be an object')
    for name, allowed in CODECS.items():
        if (config.get(name) or {}).get("codec", allowed[0]) not in allowed:
            abort(422, f'"{name}.codec" must be one of {", ".join(allowed)}')
    max_seconds = config.get("max_seconds", 86_400)
    if not isinstance(max_seconds, int) or not 60 <= max_seconds <= 86_400:
        abort(422, '"max_seconds" must be from 60 to 86400')
    if not re.fullmatch(r"\w*", str(config.get("file_name_prefix", "")), re.ASCII):
        abort(422, '"file_name_prefix" must be alphanumeric or underscore')
    return config
