"""One dead-letter queue in SQS: looking at its messages, sending them again, deleting them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from .dead_letters import DeadLetter, Queue
from .output import printable
from .stack import aws_reason

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MAX_MESSAGES = 10_000
"""How many messages of a queue one command looks at; SQS lets 120,000 be in flight (its quota)."""

# 120 s: what a command looks at is hidden from others. A killed command cannot make it visible
# again, so this time must be short.
HOLD_SECONDS = 120
# SendMessageBatch took 256 KB in one call for years, and some regions may not take more yet.
MAX_BATCH_BYTES = 240_000
POLL_SECONDS = 1

_RUNNING = ("RUNNING", "CANCELLING")
# SQS knows the source only of messages that it moved to the dead-letter queue itself.
_NO_SOURCE = "CouldNotDetermineMessageSource"
_NOT_SERVED = (
    "InvalidAction",
    "UnsupportedOperation",
    "AWS.SimpleQueueService.UnsupportedOperation",
)


class DeadLetterError(Exception):
    """Raised when a request to SQS failed; the text says what became of the messages."""


class DeadLetters:
    """The messages of one queue, used in a `with`; each method raises `DeadLetterError`.

    Messages that were received and not deleted become visible to others at the end of the `with`.
    """

    def __init__(self, queue: Queue, sqs: SQSClient) -> None:
        self.queue = queue
        self._sqs = sqs
        self._held: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        held, self._held = list(self._held.values()), {}
        try:
            with _sqs_errors():
                self._release(held)
        except DeadLetterError as error:
            if kind is None:
                raise DeadLetterError(
                    f"{error} The messages are visible again in {HOLD_SECONDS} seconds."
                ) from error

    def _release(self, receipt_handles: Sequence[str]) -> None:
        # An entry that fails is visible already, or gone, or will be visible soon.
        for start in range(0, len(receipt_handles), 10):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self.queue.url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for index, handle in enumerate(receipt_handles[start : start + 10])
                ],
            )

    def count(self) -> int:
        """Return SQS's estimate of the number of messages."""
        with _sqs_errors():
            answer = self._sqs.get_queue_attributes(
                QueueUrl=self.queue.url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def batches(self, max_messages: int = MAX_MESSAGES) -> Iterator[list[DeadLetter]]:
        """Receive all visible messages, each once, until `max_messages` are held.

        A held message is hidden, because SQS would otherwise return it again.
        """
        seen: set[str] = set()
        while len(self._held) < max_messages:
            with _sqs_errors():
                answer = self._sqs.receive_message(
                    QueueUrl=self.queue.url,
                    MaxNumberOfMessages=min(10, max_messages - len(self._held)),
                    VisibilityTimeout=HOLD_SECONDS,
                    # 1 s: without waiting, SQS asks only some of its servers, and misses messages.
                    WaitTimeSeconds=1,
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
            batch = [DeadLetter.of(self.queue, message) for message in answer.get("Messages", ())]
            self._held |= {letter.message_id: letter.receipt_handle for letter in batch}
            new = [letter for letter in batch if letter.message_id not in seen]
            if not new:
                return
            seen |= {letter.message_id for letter in new}
            yield new

    def send_again(self, letters: Sequence[DeadLetter]) -> Iterator[int]:
        """Send messages to their source queues, then delete them; yield the size of each batch.

        A command that dies between the two steps leaves a duplicate, which is harmless.
        """
        by_destination = sorted(letters, key=lambda letter: letter.destination)
        for url, group in groupby(by_destination, key=lambda letter: letter.destination):
            for batch in _split_batch(list(group)):
                sent, refusal = self._send(url, batch)
                yield len(sent)
                self.delete(sent)
                if refusal:
                    raise DeadLetterError(
                        f"{refusal} Messages that were not sent are still dead letters."
                    )

    def _send(self, url: str, batch: Sequence[DeadLetter]) -> tuple[list[DeadLetter], str | None]:
        """Send a batch; return the messages that SQS took, and why it refused the others."""
        with _sqs_errors():
            answer = self._sqs.send_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(index), "MessageBody": letter.body}
                    for index, letter in enumerate(batch)
                ],
            )
        # An answer with status 200 may list refused entries.
        sent = [batch[int(entry["Id"])] for entry in answer.get("Successful", ())]
        return sent, _refusal("take", answer.get("Failed", ()))

    def delete(self, letters: Sequence[DeadLetter]) -> int:
        """Delete messages for good; return how many."""
        for start in range(0, len(letters), 10):
            batch = letters[start : start + 10]
            with _sqs_errors():
                answer = self._sqs.delete_message_batch(
                    QueueUrl=self.queue.url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": self._held[letter.message_id]}
                        for index, letter in enumerate(batch)
                    ],
                )
            for entry in answer.get("Successful", ()):
                del self._held[batch[int(entry["Id"])].message_id]
            if refusal := _refusal("delete", answer.get("Failed", ())):
                raise DeadLetterError(refusal)
        return len(letters)

    def move(self, progress: Callable[[int, int | None], None]) -> int | None:
        """Let a task of SQS move all messages back; return how many, or `None` if SQS cannot.

        The task goes on if the command is stopped; a running task is joined. SQS cannot move
        messages whose source it does not know, and some places have no such tasks.
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
            raise DeadLetterError(_explain(error)) from error
        except BotoCoreError as error:
            raise DeadLetterError(_explain(error)) from error
        return self._follow_task(before.get("StartedTimestamp"), progress)

    def _start_task(self) -> None:
        source, destination = str(self.queue.arn), self.queue.destination_arn
        if destination is None:
            self._sqs.start_message_move_task(SourceArn=source)
        else:
            self._sqs.start_message_move_task(SourceArn=source, DestinationArn=destination)

    def _follow_task(
        self, started_before: int | None, progress: Callable[[int, int | None], None]
    ) -> int | None:
        while True:
            with _sqs_errors():
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


def _split_batch(letters: list[DeadLetter]) -> list[list[DeadLetter]]:
    """Return one batch, or one for each message if they are too large for one call."""
    size = sum(len(letter.body.encode()) for letter in letters)
    return [letters] if size <= MAX_BATCH_BYTES else [[letter] for letter in letters]


def _refusal(verb: str, failed: Sequence[Mapping[str, Any]]) -> str | None:
    if not failed:
        return None
    codes = ", ".join(sorted({f"{entry['Code']}: {entry.get('Message', '')}" for entry in failed}))
    return f"SQS did not {verb} {len(failed)} of the messages ({printable(codes)})."


@contextmanager
def _sqs_errors() -> Iterator[None]:
    """Raise `DeadLetterError` for any error of a request to SQS."""
    try:
        yield
    except (BotoCoreError, ClientError, KeyError) as error:
        raise DeadLetterError(_explain(error)) from error


def _explain(error: Exception) -> str:
    return f"SQS request failed: {aws_reason(error)}."
