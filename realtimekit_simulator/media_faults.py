"""What goes wrong between a client and a file; for other answers too, where that makes sense.

Further effects for media are among those of `faults`: Delay, Drop, Truncate, and Answer, such as
`html(200)` for an error page that says that all is well.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Response, g, request

from .envelopes import storage_error
from .faults import Answer, Effect, answer_of, checked_size, connection
from .streams import exactly, paced, reset_after


@dataclass(frozen=True, slots=True)
class Slow(Effect):
    """Send the body at so many bytes per real second."""

    bytes_per_second: float

    def __post_init__(self) -> None:
        if not 1 <= self.bytes_per_second <= 1e9:
            raise ValueError("a speed is from 1 to 1e9 bytes per second")

    def after(self, response: Response) -> Response:
        response.response = paced(response.iter_encoded(), self.bytes_per_second, connection())
        return response


@dataclass(frozen=True, slots=True)
class Reset(Effect):
    """Reset the connection after the headers and so many bytes of the body; fewer may arrive."""

    size: int = 0

    def __post_init__(self) -> None:
        checked_size(self.size)

    def after(self, response: Response) -> Response:
        response.response = reset_after(response.iter_encoded(), self.size, connection())
        return response


@dataclass(frozen=True, slots=True)
class Resize(Effect):
    """Send a body of `size` bytes, cut or filled up with zeros, and a Content-Length to match."""

    size: int

    def __post_init__(self) -> None:
        checked_size(self.size)

    def after(self, response: Response) -> Response:
        response.response = exactly(response.iter_encoded(), self.size)
        response.content_length = self.size
        return response


@dataclass(frozen=True, slots=True)
class Chunked(Effect):
    """Send the body in chunks that end well, without a Content-Length to check it against."""

    def after(self, response: Response) -> Response:
        response.response = response.iter_encoded()
        response.headers.pop("Content-Length", None)
        response.headers["Transfer-Encoding"] = "chunked"
        return response


@dataclass(frozen=True, slots=True)
class Headers(Effect):
    """Put these headers over those of the answer, such as another Content-Type; None removes."""

    headers: Mapping[str, str | None]

    def after(self, response: Response) -> Response:
        for name, value in self.headers.items():
            response.headers.pop(name, None)
            if value is not None:
                response.headers[name] = value
        return response


@dataclass(frozen=True, slots=True)
class IgnoreRange(Effect):
    """Answer as if no range had been asked for: 200, and the whole file."""

    def before(self) -> Response | None:
        request.environ.pop("HTTP_RANGE", None)
        return None


@dataclass(frozen=True, slots=True)
class Replaced(Effect):
    """Give the file an ETag that it never had, as if it were replaced before each request."""

    def before(self) -> Response | None:
        g.etag = f'"{secrets.token_hex(16)}"'
        return None


def storage_failure(
    status: int = 200, code: str = "InternalError", message: str = "simulated fault"
) -> Answer:
    """Answer with S3's error in XML; 200 as S3 does when it fails after the first byte."""
    return answer_of(storage_error(status, code, message))


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
"""Effects by the names that the control API knows them by."""
