"""A handler without work: it shows the time that Python and AWS's runtime client take."""

from typing import Any


def handler(event: Any, context: Any) -> dict[str, int]:
    """Return status 200 for any event."""
    return {"statusCode": 200}
