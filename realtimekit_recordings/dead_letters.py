"""The stack's dead letters: what they say of themselves, and how they are sent again or deleted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from botocore.exceptions import BotoCoreError, ClientError

from .stack import Stack, cause

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MOST = 10_000
"""How many messages of a queue one command looks at; SQS lets 120,000 be held at a time."""

# What is held is hidden from others. A command that is killed cannot give it back; this can.
HOLD_SECONDS = 120
# SQS took 256 KB in one call of SendMessageBatch for years; not every place takes more by now.
MAX_BYTES = 240_000
POLL_SECONDS = 1

_RUNNING = ("RUNNING", "CANCELLING")
# Of messages that it did not move there itself SQS cannot tell where they belong.
_NO_SOURCE = "CouldNotDetermineMessageSource"
_NOT_SERVED = (
    "InvalidAction",
    "UnsupportedOperation",
    "AWS.SimpleQueueService.UnsupportedOperation",
)

_SOURCES = ("webhook", "eventbridge", "api", "follow_up", "sweep", "catalogue")
_TASKS = ("archive", "erase")
_SENDERS = {"archive": ("catalogue", "follow_up"), "erase": ("api", "follow_up")}
_KEYS = {
    "archive": {"task", "recording_id", "deadline"},
    "erase": {"task", "recording_id"},
    "recording": {"recording_id", "recordingId", "hint"},
    "session": {"meeting_id", "session_id"},
}
_IDS = ("recording_id", "meeting_id", "session_id")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class DeadLetterError(Exception):
    """Raised when SQS did not do as it was asked; says what became of the messages."""


class _DoubledKeyError(Exception):
    """Raised when an object of a message has a key twice."""


# Which queues there are.


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A dead-letter queue, and where its messages came from and may be sent to again."""

    name: str
    url: str
    region: str | None
    log_group: str | None
    source_urls: Sequence[str]
    arn: str | None
    """Only where SQS itself put the messages there: those it moves back."""
    destination_arn: str | None
    """Where to; `None` is to the queue that each came from, which SQS does not know of those that
    somebody sent by hand."""


class _Resources(NamedTuple):
    """What the queue's outputs are called after."""

    queue: str
    function: str | None
    sources: tuple[str, ...]
    is_filled_by_sqs: bool


_RESOURCES = {
    "ingest": _Resources("IngestDeadLetterQueue", "IngestRecording", ("IngestQueue",), True),
    "archive": _Resources(
        "ArchiveDeadLetterQueue", "ArchiveRecording", ("ArchiveQueue", "UrgentArchiveQueue"), True
    ),
    # What EventBridge could not deliver: it says why, and the messages are ingest messages.
    "event-rule": _Resources("EventRuleDeadLetterQueue", None, ("IngestQueue",), False),
    "publish": _Resources("PublishDeadLetterQueue", "PublishChanges", (), False),
}
NAMES = tuple(_RESOURCES)


def find(stack: Stack) -> dict[str, Queue]:
    """The stack's dead-letter queues by name; without `archive` where archiving is switched off."""
    archives = stack.parameter("Archiving") == "on"
    return {
        name: _queue(stack, name, resources)
        for name, resources in _RESOURCES.items()
        if archives or name != "archive"
    }


def _queue(stack: Stack, name: str, resources: _Resources) -> Queue:
    queue, function, sources, is_filled_by_sqs = resources
    has_one_source = is_filled_by_sqs and len(sources) == 1
    return Queue(
        name=name,
        url=stack.output(f"{queue}Url"),
        region=stack.session.region_name,
        log_group=stack.output(f"{function}LogGroupName") if function else None,
        source_urls=[stack.output(f"{source}Url") for source in sources],
        arn=stack.output(f"{queue}Arn") if is_filled_by_sqs else None,
        destination_arn=stack.output(f"{sources[0]}Arn") if has_one_source else None,
    )


# What a message says.


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message of a dead-letter queue."""

    queue: Queue
    message_id: str
    receipt_handle: str = field(repr=False)
    body: str = field(repr=False)
    received: int
    """How often, those who looked at it included."""
    first_sent_at: datetime
    source_arn: str | None
    """The queue that SQS moved it from."""
    attributes: Mapping[str, str]
    """What EventBridge says of its own dead letters."""
    says: Mapping[str, str]
    """Ids, source and task; of a record of the stream, which part of it."""
    malformed: str | None
    """Why its function can never work on it."""

    @classmethod
    def of(cls, queue: Queue, message: MessageTypeDef) -> Self:
        """As SQS received it."""
        says, malformed = read(queue.name, message["Body"])
        system = message["Attributes"]
        sent = datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC)
        return cls(
            queue=queue,
            message_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            body=message["Body"],
            received=int(system["ApproximateReceiveCount"]),
            first_sent_at=sent,
            source_arn=system.get("DeadLetterQueueSourceArn"),
            attributes={
                name: printable(value.get("StringValue", ""))
                for name, value in message.get("MessageAttributes", {}).items()
            },
            says=says,
            malformed=malformed,
        )

    @property
    def cause(self) -> str:
        """Why it is there, as far as it can be told from here."""
        if self.malformed:
            return f"malformed: {self.malformed}"
        if self.queue.name == "publish":
            return self.says["condition"]
        if code := self.attributes.get("ERROR_CODE"):
            return f"{code}: {self.attributes.get('ERROR_MESSAGE', '')}"
        if self.queue.log_group is None:
            return "EventBridge did not say"
        return "failed each time, the log says why"

    @property
    def first_sent(self) -> str:
        """When, as our timestamps are written."""
        return self.first_sent_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def log_command(self) -> str | None:
        """What finds it in its function's log."""
        wanted = self.says.get("request_id") if self.queue.name == "publish" else self.message_id
        if self.queue.log_group is None or wanted is None:
            return None
        region = f" --region {self.queue.region}" if self.queue.region else ""
        # A stream's dead letter is written when all is over.
        since = _milliseconds(self.says.get("first_change_at", "")) or _milliseconds(
            self.first_sent
        )
        return (
            f"aws logs filter-log-events{region} --log-group-name {self.queue.log_group} "
            f"--start-time {since} --filter-pattern '\"{wanted}\"'"
        )

    @property
    def destination(self) -> str:
        """The URL of the queue that it came from, or of the one that such messages come from."""
        name = (self.source_arn or "").rpartition(":")[2]
        urls = [url for url in self.queue.source_urls if url.rpartition("/")[2] == name]
        return urls[0] if urls else self.queue.source_urls[0]


def _milliseconds(timestamp: str) -> int:
    """As CloudWatch counts; 0 for what is no time."""
    try:
        return int(datetime.fromisoformat(timestamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0


def printable(text: object) -> str:
    """Without what a terminal would obey: who may send to a queue chose it."""
    return "".join(one if one.isprintable() else " " for one in str(text))


def read(queue: str, body: str) -> tuple[dict[str, str], str | None]:
    """What a message of that queue says of itself, and why it can never be worked on, if so."""
    try:
        message = json.loads(body, object_pairs_hook=_unique)
    except _DoubledKeyError:
        return {}, "a key comes twice"
    except (ValueError, RecursionError):
        return {}, "the message is not JSON"
    if not isinstance(message, dict):
        return {}, "the message is no JSON object"
    if queue == "publish":
        return _read_stream_failure(message)
    says = {name: _uuid(message.get(name)) for name in _IDS}
    says["recording_id"] = says["recording_id"] or _uuid(message.get("recordingId"))
    says["source"] = next((one for one in _SOURCES if one == message.get("source")), None)
    says["task"] = next((one for one in _TASKS if one == message.get("task")), None)
    said = {name: value for name, value in says.items() if value}
    return said, _fault(message, said) or _misplaced(queue, said)


def _fault(message: Mapping[str, Any], said: Mapping[str, str]) -> str | None:
    """Return what the functions say (`recordings.messages.parse`, which is not installed here)."""
    if message.get("v") != 1:
        return printable(f"v is {str(message.get('v'))[:20]}, not 1")
    if "source" not in said:
        return "source is none of those known"
    kind = _kind(message)
    if said["source"] not in _SENDERS.get(kind, _SOURCES):
        return f"{said['source']} may not ask for this task"
    if unknown := message.keys() - {"v", "source"} - _KEYS.get(kind, set()):
        return printable(f"unknown keys: {', '.join(sorted(unknown))[:100]}")
    deadline = message.get("deadline")
    needed = "meeting_id" if kind == "session" else "recording_id"
    if needed not in said:
        return f"{needed} is not a UUID"
    if kind == "archive" and not (isinstance(deadline, str) and _TIMESTAMP.fullmatch(deadline)):
        return "deadline is not a timestamp"
    return None


def _kind(message: Mapping[str, Any]) -> str:
    if "task" in message:
        return str(message["task"])
    return "recording" if message.keys() & {"recording_id", "recordingId"} else "session"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Raises `_DoubledKeyError`: EventBridge may not escape what it puts in."""
    if len(members := dict(pairs)) < len(pairs):
        raise _DoubledKeyError
    return members


def _misplaced(queue: str, said: Mapping[str, str]) -> str | None:
    if queue == "archive":
        return None if "task" in said else "the message is not for the archive queue"
    return "the message is for the archive queue" if said.get("task") == "archive" else None


def _read_stream_failure(record: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    """What Lambda tells of records that it gave up (AWS docs, "Retain records for a DynamoDB event
    source"): where in the stream they were, and nothing of what they said."""
    context, batch = record.get("requestContext"), record.get("DDBStreamBatchInfo")
    if not isinstance(context, dict) or not isinstance(batch, dict) or "condition" not in context:
        return {}, "it is no record of Lambda's of a failure"
    says = {
        "condition": context["condition"],
        # It becomes part of a command.
        "request_id": _uuid(context.get("requestId")),
        "changes": batch.get("batchSize"),
        "first_change_at": batch.get("approximateArrivalOfFirstRecord"),
        "last_change_at": batch.get("approximateArrivalOfLastRecord"),
        "shard_id": batch.get("shardId"),
        "first_sequence_number": batch.get("startSequenceNumber"),
        "last_sequence_number": batch.get("endSequenceNumber"),
    }
    return {name: printable(value) for name, value in says.items() if value is not None}, None


def _uuid(value: object) -> str | None:
    lower = value.lower() if isinstance(value, str) else ""
    return lower if _UUID.fullmatch(lower) else None


# What can be done with them.


class DeadLetters:
    """The messages of one queue. What was looked at and not deleted is given back at the end of a
    `with`, so that others see it at once. Whatever goes wrong is a `DeadLetterError`."""

    def __init__(self, queue: Queue, sqs: SQSClient) -> None:
        self.queue = queue
        self._sqs = sqs
        self._held: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        held, self._held = list(self._held.values()), {}
        try:
            with _asking():
                self._give_back(held)
        except DeadLetterError as error:
            if kind is None:
                raise DeadLetterError(
                    f"{error} What was looked at is visible again in {HOLD_SECONDS} seconds."
                ) from error

    def _give_back(self, receipt_handles: Sequence[str]) -> None:
        # A message that cannot be given back is visible already, or gone, or will be visible soon.
        for start in range(0, len(receipt_handles), 10):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self.queue.url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for index, handle in enumerate(receipt_handles[start : start + 10])
                ],
            )

    def count(self) -> int:
        """About how many there are, as SQS estimates."""
        with _asking():
            answer = self._sqs.get_queue_attributes(
                QueueUrl=self.queue.url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def batches(self, most: int = MOST) -> Iterator[list[DeadLetter]]:
        """All that are visible, each once, while no more than `most` are held. What is held is
        hidden: else SQS would show the same again and again."""
        seen: set[str] = set()
        while len(self._held) < most:
            with _asking():
                answer = self._sqs.receive_message(
                    QueueUrl=self.queue.url,
                    MaxNumberOfMessages=min(10, most - len(self._held)),
                    VisibilityTimeout=HOLD_SECONDS,
                    # Without waiting SQS asks only some of its machines, and "none" means nothing.
                    WaitTimeSeconds=1,
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
            batch = [DeadLetter.of(self.queue, one) for one in answer.get("Messages", ())]
            self._held |= {one.message_id: one.receipt_handle for one in batch}
            new = [one for one in batch if one.message_id not in seen]
            if not new:
                return
            seen |= {one.message_id for one in new}
            yield new

    def send_again(self, letters: Sequence[DeadLetter]) -> Iterator[int]:
        """Send them to where they came from, then delete them, in that order: whoever dies in
        between doubles a message, which does no harm, and loses none. Says how many, step by step.
        """
        by_destination = sorted(letters, key=lambda one: one.destination)
        for url, group in groupby(by_destination, key=lambda one: one.destination):
            for batch in _sendable(list(group)):
                sent, refusal = self._send(url, batch)
                yield len(sent)
                self.delete(sent)
                if refusal:
                    raise DeadLetterError(f"{refusal} What was not sent is still a dead letter.")

    def _send(self, url: str, batch: Sequence[DeadLetter]) -> tuple[list[DeadLetter], str | None]:
        """Those that SQS took, and why it did not take the others."""
        with _asking():
            answer = self._sqs.send_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(index), "MessageBody": one.body} for index, one in enumerate(batch)
                ],
            )
        # A 200 may tell of refused entries.
        sent = [batch[int(one["Id"])] for one in answer.get("Successful", ())]
        return sent, _refusal("take", answer.get("Failed", ()))

    def delete(self, letters: Sequence[DeadLetter]) -> int:
        """Delete them for good; how many."""
        for start in range(0, len(letters), 10):
            batch = letters[start : start + 10]
            with _asking():
                answer = self._sqs.delete_message_batch(
                    QueueUrl=self.queue.url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": self._held[one.message_id]}
                        for index, one in enumerate(batch)
                    ],
                )
            for entry in answer.get("Successful", ()):
                del self._held[batch[int(entry["Id"])].message_id]
            if refusal := _refusal("delete", answer.get("Failed", ())):
                raise DeadLetterError(refusal)
        return len(letters)

    def move(self, progress: Callable[[int, int | None], None]) -> int | None:
        """Have SQS move all of them back, by a task of its own that goes on if we do not; how many.

        A task that runs already is joined. `None` where SQS has no such tasks, or cannot tell where
        messages belong: those must be sent again one by one.
        """
        try:
            before = self._latest_task()
            if before.get("Status") not in _RUNNING:
                self._start_task()
            else:
                before = {}
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_SERVED:
                return None
            raise DeadLetterError(_told(error)) from error
        except BotoCoreError as error:
            raise DeadLetterError(_told(error)) from error
        return self._followed(before.get("StartedTimestamp"), progress)

    def _start_task(self) -> None:
        source, destination = str(self.queue.arn), self.queue.destination_arn
        if destination is None:
            self._sqs.start_message_move_task(SourceArn=source)
        else:
            self._sqs.start_message_move_task(SourceArn=source, DestinationArn=destination)

    def _followed(
        self, started_before: int | None, progress: Callable[[int, int | None], None]
    ) -> int | None:
        while True:
            with _asking():
                task = self._latest_task()
            moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
            progress(moved, task.get("ApproximateNumberOfMessagesToMove"))
            is_new = bool(task) and task.get("StartedTimestamp") != started_before
            if is_new and task["Status"] not in _RUNNING:
                break
            time.sleep(POLL_SECONDS)
        if task["Status"] == "COMPLETED":
            return moved
        if _NO_SOURCE in (reason := task.get("FailureReason", "")):
            return None
        raise DeadLetterError(
            f"SQS moved {moved} messages of {self.queue.name}, then the task was "
            f"{task['Status']}: {reason or 'no reason given'}. The others are still dead letters."
        )

    def _latest_task(self) -> Mapping[str, Any]:
        answer = self._sqs.list_message_move_tasks(SourceArn=str(self.queue.arn), MaxResults=1)
        results: Sequence[Mapping[str, Any]] = answer.get("Results", ())
        return results[0] if results else {}


def _sendable(letters: list[DeadLetter]) -> list[list[DeadLetter]]:
    """In one call, or one by one where they are too large together."""
    size = sum(len(one.body.encode()) for one in letters)
    return [letters] if size <= MAX_BYTES else [[one] for one in letters]


def _refusal(verb: str, failed: Sequence[Mapping[str, Any]]) -> str | None:
    if not failed:
        return None
    codes = ", ".join(sorted({f"{one['Code']}: {one.get('Message', '')}" for one in failed}))
    return f"SQS did not {verb} {len(failed)} of the messages ({printable(codes)})."


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, KeyError) as error:
        raise DeadLetterError(_told(error)) from error


def _told(error: Exception) -> str:
    return f"SQS does not do it: {cause(error)}."
