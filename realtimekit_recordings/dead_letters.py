"""The stack's dead-letter queues and their messages: what each is about, and why it is there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .output import printable
from .stack import Stack
from .timestamps import milliseconds, timestamp
from .webhooks import SESSION_FILE_EVENTS

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_SOURCES = ("webhook", "eventbridge", "api", "follow_up", "sweep", "catalogue")
_TASKS = ("archive", "erase", "session_files")
_SENDERS = {
    "archive": ("catalogue", "follow_up"),
    "erase": ("api", "follow_up"),
    "session_files": ("webhook", "catalogue", "sweep", "follow_up"),
}
_KEYS = {
    "archive": {"task", "recording_id", "deadline"},
    "erase": {"task", "recording_id"},
    "recording": {"recording_id", "recordingId", "hint"},
    "session": {"meeting_id", "session_id", "hint"},
    "session_files": {"task", "session_id", "announced"},
}
_NEEDED_IDS = {"session": "meeting_id", "session_files": "session_id"}
_IDS = ("recording_id", "meeting_id", "session_id")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class _DuplicateKeyError(Exception):
    """Raised when an object of a message has a key twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A dead-letter queue, and the source queues to which its messages can be sent again."""

    name: str
    url: str
    region: str | None
    log_group: str | None
    source_urls: Sequence[str]
    arn: str | None
    """The queue's ARN, if SQS itself filled it; SQS moves only such messages back."""
    destination_arn: str | None
    """The queue to move messages to. `None` means the queue of each, which SQS does not know of a
    message sent by hand."""


class _Resources(NamedTuple):
    """The template's resources of a queue, which the names of the stack's outputs begin with."""

    queue: str
    function: str | None
    sources: tuple[str, ...]
    is_filled_by_sqs: bool


_RESOURCES = {
    "ingest": _Resources("IngestDeadLetterQueue", "IngestRecording", ("IngestQueue",), True),
    "archive": _Resources(
        "ArchiveDeadLetterQueue", "ArchiveRecording", ("ArchiveQueue", "UrgentArchiveQueue"), True
    ),
    # EventBridge puts ingest messages here that it could not deliver, and says why.
    "event-rule": _Resources("EventRuleDeadLetterQueue", None, ("IngestQueue",), False),
    "publish": _Resources("PublishDeadLetterQueue", "PublishChanges", (), False),
}
NAMES = tuple(_RESOURCES)


def find(stack: Stack) -> dict[str, Queue]:
    """Return the stack's dead-letter queues by name; without `archive` if archiving is off."""
    archives = stack.parameter("Archiving") == "on"
    return {
        name: _build_queue(stack, name, resources)
        for name, resources in _RESOURCES.items()
        if archives or name != "archive"
    }


def _build_queue(stack: Stack, name: str, resources: _Resources) -> Queue:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message of a dead-letter queue."""

    queue: Queue
    message_id: str
    receipt_handle: str = field(repr=False)
    body: str = field(repr=False)
    received: int
    """How often the message was received; looking at it counts."""
    first_sent_at: datetime
    source_arn: str | None
    """The queue that SQS moved the message from."""
    attributes: Mapping[str, str]
    """The attributes that EventBridge adds to its own dead letters."""
    details: Mapping[str, str]
    """Ids, source and task of the message, or the part of the stream that a record is about."""
    malformed: str | None
    """Why the function can never handle the message, or `None` if it may."""

    @classmethod
    def of(cls, queue: Queue, message: MessageTypeDef) -> Self:
        """Return the dead letter of a message that SQS returned."""
        details, malformed = read(queue.name, message["Body"])
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
            details=details,
            malformed=malformed,
        )

    @property
    def cause(self) -> str:
        """The reason why the message is a dead letter, as far as the message shows it."""
        if self.malformed:
            return f"malformed: {self.malformed}"
        if self.queue.name == "publish":
            return self.details["condition"]
        if code := self.attributes.get("ERROR_CODE"):
            return f"{code}: {self.attributes.get('ERROR_MESSAGE', '')}"
        if self.queue.log_group is None:
            return "EventBridge did not say"
        return "failed each time, the log says why"

    @property
    def first_sent(self) -> str:
        """The timestamp of `first_sent_at`."""
        return timestamp(self.first_sent_at)

    @property
    def log_command(self) -> str | None:
        """The command that finds the message in its function's log, if it has one."""
        pattern = (
            self.details.get("request_id") if self.queue.name == "publish" else self.message_id
        )
        if self.queue.log_group is None or pattern is None:
            return None
        region = f" --region {self.queue.region}" if self.queue.region else ""
        # Lambda writes a stream's dead letter only after its last attempt.
        since = milliseconds(self.details.get("first_change_at", "")) or milliseconds(
            self.first_sent
        )
        return (
            f"aws logs filter-log-events{region} --log-group-name {self.queue.log_group} "
            f"--start-time {since} --filter-pattern '\"{pattern}\"' "
            # Prints each line as the function wrote it, not inside the JSON of the AWS CLI.
            "--query 'events[].[message]' --output text"
        )

    @property
    def destination(self) -> str:
        """The URL of the queue that the message came from, or else of the first source queue."""
        name = (self.source_arn or "").rpartition(":")[2]
        urls = [url for url in self.queue.source_urls if url.rpartition("/")[2] == name]
        return urls[0] if urls else self.queue.source_urls[0]


def read(queue: str, body: str) -> tuple[dict[str, str], str | None]:
    """Return a message's ids, source and task, and why it is malformed, or `None`."""
    try:
        message = json.loads(body, object_pairs_hook=_unique_members)
    except _DuplicateKeyError:
        return {}, "a key comes twice"
    except (ValueError, RecursionError):
        return {}, "the message is not JSON"
    if not isinstance(message, dict):
        return {}, "the message is no JSON object"
    if queue == "publish":
        return _read_stream_failure(message)
    details = {name: _uuid(message.get(name)) for name in _IDS}
    details["recording_id"] = details["recording_id"] or _uuid(message.get("recordingId"))
    details["source"] = next(
        (source for source in _SOURCES if source == message.get("source")), None
    )
    details["task"] = next((task for task in _TASKS if task == message.get("task")), None)
    known = {name: value for name, value in details.items() if value}
    return known, _find_fault(message, known) or _find_wrong_queue(queue, known)


def _find_fault(message: Mapping[str, Any], details: Mapping[str, str]) -> str | None:
    """Return the error of `recordings.messages.parse`, which is not installed here."""
    if message.get("v") != 1:
        return printable(f"v is {str(message.get('v'))[:20]}, not 1")
    if "source" not in details:
        return "source is none of those known"
    kind = _kind(message)
    if details["source"] not in _SENDERS.get(kind, _SOURCES):
        return f"{details['source']} may not ask for this task"
    if unknown := message.keys() - {"v", "source"} - _KEYS.get(kind, set()):
        return printable(f"unknown keys: {', '.join(sorted(unknown))[:100]}")
    if kind == "session_files" and (fault := _announced_fault(message.get("announced", {}))):
        return fault
    deadline = message.get("deadline")
    needed = _NEEDED_IDS.get(kind, "recording_id")
    if needed not in details:
        return f"{needed} is not a UUID"
    if kind == "archive" and not (isinstance(deadline, str) and _TIMESTAMP.fullmatch(deadline)):
        return "deadline is not a timestamp"
    return None


def _announced_fault(announced: object) -> str | None:
    """Return what is wrong with the announced kinds of session files, each with a timestamp."""
    if not isinstance(announced, Mapping) or not announced.keys() <= SESSION_FILE_EVENTS.keys():
        return "announced is not a map of kinds of session files"
    for kind, time in announced.items():
        if time != "" and not (isinstance(time, str) and _TIMESTAMP.fullmatch(time)):
            return f"announced.{kind} is neither a timestamp nor empty"
    return None


def _kind(message: Mapping[str, Any]) -> str:
    if "task" in message:
        return str(message["task"])
    return "recording" if message.keys() & {"recording_id", "recordingId"} else "session"


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's members; raise `_DuplicateKeyError` for a key that comes twice.

    EventBridge may leave a value unescaped, so that a text in it adds keys.
    """
    if len(members := dict(pairs)) < len(pairs):
        raise _DuplicateKeyError
    return members


def _find_wrong_queue(queue: str, details: Mapping[str, str]) -> str | None:
    if queue == "archive":
        is_ours = details.get("task") in ("archive", "erase")
        return None if is_ours else "the message is not for the archive queue"
    return "the message is for the archive queue" if details.get("task") == "archive" else None


def _read_stream_failure(record: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    """Read Lambda's record of a batch that it gave up, which says where in the stream it was.

    AWS docs: "Retain records for a DynamoDB event source". The changes themselves are not in it.
    """
    context, batch = record.get("requestContext"), record.get("DDBStreamBatchInfo")
    if not isinstance(context, dict) or not isinstance(batch, dict) or "condition" not in context:
        return {}, "the message is not Lambda's record of a failure"
    details = {
        "condition": context["condition"],
        # A UUID only, because it becomes part of a command.
        "request_id": _uuid(context.get("requestId")),
        "changes": batch.get("batchSize"),
        "first_change_at": batch.get("approximateArrivalOfFirstRecord"),
        "last_change_at": batch.get("approximateArrivalOfLastRecord"),
        "shard_id": batch.get("shardId"),
        "first_sequence_number": batch.get("startSequenceNumber"),
        "last_sequence_number": batch.get("endSequenceNumber"),
    }
    return {name: printable(value) for name, value in details.items() if value is not None}, None


def _uuid(value: object) -> str | None:
    lower = value.lower() if isinstance(value, str) else ""
    return lower if _UUID.fullmatch(lower) else None
