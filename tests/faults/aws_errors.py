"""AWS's errors, in the form of each protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from faults.workers import Reply, Request

BATCHES: dict[str, Callable[[list[Any]], Any]] = {
    "PutEvents": lambda entries: {
        "FailedEntryCount": len(entries),
        "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "-"} for _ in entries],
    },
    "SendMessageBatch": lambda entries: {
        "Successful": [],
        "Failed": [
            {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"} for entry in entries
        ],
    },
}
"""Operations whose entries may be refused in a 200, and the answer that refuses them all."""


def refusal(fault: str, request: Request) -> Reply:
    """Return the answer that throttles a request, fails it, or refuses its entries in a 200."""
    if fault == "refused in a 200":
        return _json(200, BATCHES[request.operation](json.loads(request.body)["Entries"]))
    is_throttled = fault == "throttled"
    if request.service == "s3":
        status, code = (503, "SlowDown") if is_throttled else (500, "InternalError")
        xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>-</Message></Error>"
        body = b"" if request.method == "HEAD" else xml.encode()
        return Reply(status, {"Content-Type": "application/xml"}, body)
    status, code = (400, "ThrottlingException") if is_throttled else (500, "InternalError")
    return _json(status, {"__type": code, "message": "simulated fault"})


def row_too_large() -> Reply:
    """Return DynamoDB's refusal of a row of more than 400 KB, which is the same each time."""
    message = "Item size to update has exceeded the maximum allowed size"
    kind = "com.amazon.coral.validate#ValidationException"
    return _json(400, {"__type": kind, "message": message})


def _json(status: int, content: Any) -> Reply:
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    return Reply(status, headers, json.dumps(content).encode())
