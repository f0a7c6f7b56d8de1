"""The callers of the functions, by AWS's rules, which the emulator does not all follow.

A message that was not dealt with stays hidden until its visibility timeout is over, and after five
times is a dead letter; a stream's batch is tried again from where it failed, in halves.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from faults.clock import SharedClock

MAX_RECEIVES = 5


@dataclass(slots=True)
class Invocation:
    """An invocation. `done` gets the answer or None; a `spared` one meets no fault."""

    function: str
    event: Any
    done: Callable[[Any], None] = lambda answer: None
    spared: bool = False


class QueueSource:
    """A queue's event source mapping. `bodies` has the bodies of all its messages, by id."""

    def __init__(
        self, sqs: Any, url: str, arn: str, function: str, batch_size: int, order: random.Random
    ) -> None:
        self.bodies: dict[str, str] = {}
        self._sqs, self._url, self._arn = sqs, url, arn
        self._function = function
        self._batch_size = batch_size
        self._order = order
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.visibility_timeout = int(attributes["VisibilityTimeout"])

    def take(self) -> Invocation | None:
        """Return the invocation for a batch, or None if the queue is empty."""
        size = self._order.choice([1, 2, self._batch_size])
        found = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(size, self._batch_size),
            AttributeNames=["All"],
        ).get("Messages", [])
        self.bodies |= {message["MessageId"]: message["Body"] for message in found}
        receives = [int(one["Attributes"]["ApproximateReceiveCount"]) for one in found]
        # Faults end before a message's last receive, so no readable message is given up.
        spared = max(receives, default=0) >= MAX_RECEIVES - 1
        event = {"Records": [self._record(message) for message in found]}
        done: Callable[[Any], None] = lambda answer: self._done(found, answer)  # noqa: E731
        return Invocation(self._function, event, done, spared) if found else None

    def _record(self, message: Any) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": "eu-central-1",
        }

    def _done(self, messages: list[Any], answer: Any) -> None:
        """Delete handled messages, except for a few: a queue delivers at least once."""
        if answer is None:
            return
        failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
            if message["MessageId"] not in failed and self._order.random() > 0.02
        ]
        if entries:
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


class StreamSource:
    """A stream's event source mapping; one batch at a time, in order. `records` are all there were."""

    def __init__(
        self, streams: Any, arn: str, function: str, batch_size: int, clock: SharedClock
    ) -> None:
        self.records: list[Any] = []
        self._streams, self._arn = streams, arn
        self._function = function
        self._batch_size = self._size = batch_size
        self._clock = clock
        self._position = 0
        self._is_busy = False
        self._read_at = 0.0
        [self._shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]

    def take(self) -> Invocation | None:
        """Return the invocation for the next batch, or None if one is under way."""
        if self._is_busy:
            return None
        self._read()
        batch = self.records[self._position : self._position + self._size]
        self._is_busy = bool(batch)
        event = {"Records": json.loads(json.dumps(batch, default=str))}
        done: Callable[[Any], None] = lambda answer: self._done(batch, answer)  # noqa: E731
        return Invocation(self._function, event, done) if batch else None

    def _read(self) -> None:
        """Read new records. An iterator lives a quarter of an hour, and a record a day."""
        last: Any = self.records[-1]["dynamodb"] if self.records else {"SequenceNumber": ""}
        now = self._clock.time()
        if now - self._read_at > 800:
            start = {"ShardIteratorType": "TRIM_HORIZON"}
            if self.records and now - last["ApproximateCreationDateTime"].timestamp() < 80_000:
                start = {
                    "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                    "SequenceNumber": last["SequenceNumber"],
                }
            self._iterator = self._streams.get_shard_iterator(
                StreamArn=self._arn, ShardId=self._shard["ShardId"], **start
            )["ShardIterator"]
        answer = self._streams.get_records(ShardIterator=self._iterator)
        self._iterator, self._read_at = answer["NextShardIterator"], now
        self.records.extend(
            record
            for record in answer["Records"]
            if record["dynamodb"]["SequenceNumber"] > last["SequenceNumber"]
        )

    def _done(self, batch: list[Any], answer: Any) -> None:
        self._is_busy = False
        if answer is None:
            self._size = max(1, len(batch) // 2)
            return
        failures = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        self._position += numbers.index(failures[0]) if failures else len(batch)
        self._size = self._batch_size


class Schedule:
    """A rule that calls a function every minute, or at one of each hour or day."""

    def __init__(self, function: str, expression: str, event: Any) -> None:
        self.function, self.event = function, event
        self.due: float | None = None
        self._next = 0
        times = re.fullmatch(r"rate\(1 minute\)|cron\((\d+) (\d+|\*) \* \* \? \*\)", expression)
        assert times is not None, expression
        self._minute, self._hour = times[1], times[2]

    @property
    def is_every_minute(self) -> bool:
        """True if the schedule calls each minute, mostly without work to do."""
        return self._minute is None

    def after(self, moment: float) -> float:
        """Return the time of the first call after a moment."""
        call = math.floor(moment / 60) * 60 + 60
        if self.is_every_minute:
            return call
        # Time goes forward: what is still to come stays so.
        if self._next <= moment:
            self._next = next(time for time in itertools.count(call, 60) if self._is_at(time))
        return self._next

    def _is_at(self, moment: float) -> bool:
        time = datetime.fromtimestamp(moment, UTC)
        return self._hour in ("*", str(time.hour)) and self._minute == str(time.minute)
