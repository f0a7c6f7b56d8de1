"""An AWS account in memory: boto3 clients of the services that the functions use, and their time.

A call takes `AWS_SECONDS` of the simulated time, so an invocation lasts as long as its calls. The
tables are those of `dynamodb`; a queue keeps its messages until Lambda (`throughput`) deletes them.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from botocore.exceptions import ClientError

from .cost import AWS_SECONDS
from .dynamodb import ConditionFailedError, Tables


class Timer(Protocol):
    """The simulated time."""

    def time(self) -> float:
        """Return the seconds since the epoch."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""


@dataclass(order=True, slots=True)
class Message:
    """A message of a queue, which is hidden until `visible_at`."""

    visible_at: float
    number: int
    body: str = field(compare=False)
    sent_at: float = field(compare=False)
    receives: int = field(default=0, compare=False)


class Queue:
    """A queue of SQS. `on_send` is called with the time at which a message becomes visible."""

    def __init__(self) -> None:
        self.on_send: Callable[[float], None] = lambda _: None
        self.deepest = 0
        self._messages: list[Message] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._messages)

    def send(self, body: str, sent_at: float, delay: float = 0) -> None:
        """Add a message that is hidden for so many seconds."""
        self.put_back(Message(sent_at + delay, next(self._numbers), body, sent_at))

    def put_back(self, message: Message) -> None:
        """Add a message that was received before and not deleted."""
        heapq.heappush(self._messages, message)
        self.deepest = max(self.deepest, len(self._messages))
        self.on_send(message.visible_at)

    def receive(self, now: float, limit: int) -> list[Message]:
        """Take up to `limit` visible messages out of the queue."""
        found: list[Message] = []
        while len(found) < limit and self._messages and self._messages[0].visible_at <= now:
            message = heapq.heappop(self._messages)
            message.receives += 1
            found.append(message)
        return found


class Account:
    """The services; `client` stands for `boto3.client`.

    `objects` counts the uploads of each key. `on_upload` is called before an object is complete.
    """

    def __init__(self, tables: Tables, timer: Timer, token: str, upload_seconds: float) -> None:
        self.tables = tables
        self.queues: dict[str, Queue] = {}
        self.objects: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.events = 0
        self._timer = timer
        self._token = token
        self._upload_seconds = upload_seconds
        self._sizes: dict[str, int] = {}

    def client(self, service: str, **_: Any) -> Client:
        """Return a client of a service."""
        return Client(self, service)

    def answer(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a service's answer to a request, after the time that it takes."""
        self._timer.advance(AWS_SECONDS)
        self.calls[service] += 1
        if service == "dynamodb":
            name = "".join(part.title() for part in operation.split("_"))
            try:
                return self.tables.answer(name, request)
            except ConditionFailedError:
                raise _error("ConditionalCheckFailedException", operation) from None
        handle: Callable[..., dict[str, Any]] = getattr(self, f"_{operation}")
        return handle(**request)

    def _get_secret_value(self, **_: Any) -> dict[str, Any]:
        return {"SecretString": json.dumps({"api_token": self._token})}

    def _put_events(self, **request: Any) -> dict[str, Any]:
        self.events += len(request["Entries"])
        return {"FailedEntryCount": 0, "Entries": [{} for _ in request["Entries"]]}

    def _send_message(self, **request: Any) -> dict[str, Any]:
        self.queues[request["QueueUrl"]].send(request["MessageBody"], self._timer.time())
        return {}

    def _send_message_batch(self, **request: Any) -> dict[str, Any]:
        queue, now = self.queues[request["QueueUrl"]], self._timer.time()
        for entry in request["Entries"]:
            queue.send(entry["MessageBody"], now, entry.get("DelaySeconds", 0))
        return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]]}

    def _head_object(self, **request: Any) -> dict[str, Any]:
        if request["Key"] not in self.objects:
            raise _error("404", "head_object", 404)
        return {"ContentLength": self._sizes[request["Key"]], "Metadata": {}}

    def _get_object_lock_configuration(self, **_: Any) -> dict[str, Any]:
        raise _error("ObjectLockConfigurationNotFoundError", "get_object_lock_configuration", 404)

    def _create_multipart_upload(self, **request: Any) -> dict[str, Any]:
        return {"UploadId": request["Key"]}

    def _upload_part(self, **request: Any) -> dict[str, Any]:
        while request["Body"].read(65_536):
            pass
        return {"ETag": '"part"'}

    def _complete_multipart_upload(self, **request: Any) -> dict[str, Any]:
        self._timer.advance(self._upload_seconds)
        self.objects[request["Key"]] += 1
        self._sizes[request["Key"]] = request["MpuObjectSize"]
        return {}


class Client:
    """A client whose operations are methods, as boto3's are."""

    def __init__(self, account: Account, service: str) -> None:
        self._account = account
        self._service = service

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        def call(**request: Any) -> dict[str, Any]:
            return self._account.answer(self._service, operation, request)

        return call

    def get_paginator(self, operation: str) -> Pages:
        """Return an operation's pages, which are always one."""
        if operation == "list_parts":
            # Every copy is the first of its file.
            return Pages(lambda **_: {})
        return Pages(partial(self._account.answer, self._service, operation))


class Pages:
    """The only page of an operation's answer."""

    def __init__(self, answer: Callable[..., dict[str, Any]]) -> None:
        self._answer = answer
        self._page: dict[str, Any] = {}

    def paginate(self, **request: Any) -> Pages:
        """Send the request."""
        self._page = self._answer(request=request)
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([self._page])

    def search(self, path: str) -> Iterator[Any]:
        """Yield the items of a list, `Name[]`."""
        return iter(self._page.get(path.removesuffix("[]"), []))


def _error(code: str, operation: str, status: int = 400) -> ClientError:
    metadata: Any = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, operation)
