"""Faults of downloads, most of which apply to other answers too.

`faults` has more that suit media: Delay, Drop, Truncate and Answer, such as `html(200)` for an
error page with the status of a success.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Response, g, request

from .envelopes import storage_error
from .faults import Answer, Effect, answer_with, connection, require_size
from .streams import fit_to, pace, reset_after


@dataclass(frozen=True, slots=True)
class Slow(Effect):
    """Send the body at this many bytes per real second."""

    bytes_per_second: float

    def __post_init__(self) -> None:
        if not 1 <= self.bytes_per_second <= 1e9:
            raise ValueError("bytes_per_second must be from 1 to 1e9")

    def after(self, response: Response) -> Response:
        """Slow the body down."""
        response.response = pace(response.iter_encoded(), self.bytes_per_second, connection())
        return response


@dataclass(frozen=True, slots=True)
class Reset(Effect):
    """Reset the connection after this many bytes of the body; fewer may arrive."""

    size: int = 0

    def __post_init__(self) -> None:
        require_size(self.size)

    def after(self, response: Response) -> Response:
        """Reset the connection in the middle of the body."""
        response.response = reset_after(response.iter_encoded(), self.size, connection())
        return response


@dataclass(frozen=True, slots=True)
class Resize(Effect):
    """Send a body of `size` bytes, cut or filled up with zeros, and a Content-Length to match."""

    size: int

    def __post_init__(self) -> None:
        require_size(self.size)

    def after(self, response: Response) -> Response:
        """Change the body's size and the Content-Length."""
        response.response = fit_to(response.iter_encoded(), self.size)
        response.content_length = self.size
        return response


@dataclass(frozen=True, slots=True)
class Chunked(Effect):
    """Send the body in chunks, without a Content-Length to compare it with."""

    def after(self, response: Response) -> Response:
        """Replace the Content-Length by chunked encoding."""
        response.response = response.iter_encoded()
        response.headers.pop("Content-Length", None)
        response.headers["Transfer-Encoding"] = "chunked"
        return response


@dataclass(frozen=True, slots=True)
class Headers(Effect):
    """Replace these headers of the answer, such as Content-Type; None removes one."""

    headers: Mapping[str, str | None]

    def after(self, response: Response) -> Response:
        """Replace or remove the headers."""
        for name, value in self.headers.items():
            response.headers.pop(name, None)
            if value is not None:
                response.headers[name] = value
        return response


@dataclass(frozen=True, slots=True)
class IgnoreRange(Effect):
    """Ignore the Range header: answer 200 with the whole file."""

    def before(self) -> Response | None:
        """Remove the Range header from the request."""
        request.environ.pop("HTTP_RANGE", None)
        return None


@dataclass(frozen=True, slots=True)
class Replaced(Effect):
    """Give the file a new ETag, as if it had been replaced before each request."""

    def before(self) -> Response | None:
        """Leave a random ETag for the media host."""
        g.etag = f'"{secrets.token_hex(16)}"'
        return None


def storage_failure(
    status: int = 200, code: str = "InternalError", message: str = "simulated fault"
) -> Answer:
    """Answer with S3's XML error; 200 is what S3 sends when it fails after the first byte."""
    return answer_with(storage_error(status, code, message))


MEDIA_EFFECTS: Mapping[str, Callable[..., Effect]] = {
    "slow": Slow,
    "reset": Reset,
    "resize": Resize,
    "chunked": Chunked,
    "headers": Headers,
    "ignore_range": IgnoreRange,
    "replaced": Replaced,
    "storage_failure": storage_failure,
}
"""Effects by their names in the control API."""
