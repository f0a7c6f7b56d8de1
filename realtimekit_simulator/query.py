"""Query, ids and body of a request; malformed ones are refused as RealtimeKit would."""

import re
import uuid
from collections.abc import Sequence
from typing import Any, TypeVar

from flask import abort, request
from werkzeug.datastructures import MultiDict

from .not_simulated import NotSimulatedError
from .options import check_ai_config
from .world import Undocumented

Item = TypeVar("Item")

CODECS = {"audio_config": ("AAC", "MP3"), "video_config": ("H264", "VP8", "VP9")}
CONFIG_OBJECTS = (*CODECS, "interactive_config", "realtimekit_bucket_config", "storage_config")


class Query:
    """Parameters of a list request; every reader answers 400 to a malformed value."""

    def __init__(self, arguments: MultiDict[str, str]) -> None:
        self._arguments = arguments

    def refuse(self, *names: str) -> None:
        """Answer 501 if a parameter is used that RealtimeKit documents and this simulator lacks."""
        for name in names:
            if self.text(name):
                raise NotSimulatedError(f"the parameter {name} of {request.path}")

    def text(self, name: str) -> str:
        """Return the parameter, or the empty string; RealtimeKit allows `page_no=`."""
        return self._arguments.get(name, "")

    def number(self, name: str, default: int) -> int:
        """Return a whole number of 0 or more; the SDK writes 1 as 1.0."""
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
        """Return one of the allowed words, or None."""
        text = self.text(name)
        if text and text not in allowed:
            abort(400, f"{name} must be one of {', '.join(allowed)}")
        return text or None

    def identifier(self, name: str) -> str | None:
        """Return a UUID, or None."""
        text = self.text(name)
        return parse_identifier(text, name) if text else None

    def page(self, items: Sequence[Item], rules: Undocumented) -> tuple[list[Item], dict[str, int]]:
        """Return the requested page and its `paging`; offsets count from 1 and are inclusive."""
        requested = self.number("per_page", rules.default_per_page)
        if rules.refused_per_page is not None and requested > rules.refused_per_page:
            abort(400, f"per_page must be {rules.refused_per_page} or less")
        size = min(requested, rules.max_per_page)
        page = max(self.number("page_no", rules.first_page) - rules.first_page, 0)
        start = page * size
        page_items = list(items[start : start + size])
        offsets = (start + 1, start + len(page_items)) if page_items else (0, 0)
        total = len(items)
        return page_items, {
            "total_count": total,
            "start_offset": offsets[0],
            "end_offset": offsets[1],
        }


def parse_identifier(text: str, name: str) -> str:
    """Return a UUID in its usual form; answer 400 otherwise (RealtimeKit's status is unknown)."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        abort(400, f"{name} must be a UUID")


def read_body() -> dict[str, Any]:
    """Return the request's JSON object; answer 400 to any other body."""
    content = request.get_json(silent=True)
    if not isinstance(content, dict):
        abort(400, "the body must be a JSON object")
    return content


def parse_config(config: Any) -> dict[str, Any]:
    """Return a recording configuration that fits the OpenAPI; answer 422 otherwise, as was seen."""
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


def parse_ai_config(config: Any) -> dict[str, Any]:
    """Return an `ai_config` that fits the SDK's types; answer 422 otherwise."""
    try:
        check_ai_config(config)
    except ValueError as error:
        abort(422, str(error))
    return dict(config)
