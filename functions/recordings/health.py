"""Whether all that the service stands on can be reached, and whether anything waits too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from recordings.archive import Archive
from recordings.catalogue import Catalogue
from recordings.realtimekit import ApiToken, RealtimeKit, RealtimeKitError, ThrottledError
from recordings.worklist import Worklist, utcnow

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

OK, DEGRADED, FAILING = "ok", "degraded", "failing"

# `follow_up` runs each minute; checks that have been due for so long are not followed up.
MAX_OVERDUE_SECONDS = 900
_SOME_ID = "00000000-0000-4000-8000-000000000000"

Part = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Looks at each part in turn; `queues` are URLs by name, dead-letter queues end in `letters`.

    `failing` is what does not work, `degraded` what works and wants to be looked at.
    """

    token: ApiToken
    realtimekit: RealtimeKit
    catalogue: Catalogue
    worklist: Worklist
    sqs: SQSClient
    queues: Mapping[str, str]
    archive: Archive | None
    now: Callable[[], datetime] = utcnow

    def report(self) -> Part:
        """`{"status": …, "parts": {name: {"status": …, …}}}`: the worst is the whole's."""
        looks: dict[str, Callable[[], Part]] = {
            "api_token": self._api_token,
            "realtimekit": self._realtimekit,
            "recordings_table": self._recordings_table,
            "work_table": self._work_table,
            "queues": self._queues,
        }
        if self.archive:
            looks["archive"] = self._archive
        # At once: if several are down, their time-outs are not to add up.
        with ThreadPoolExecutor(len(looks)) as threads:
            parts = dict(zip(looks, threads.map(_looked, looks.values()), strict=True))
        statuses = [part["status"] for part in parts.values()]
        worst = next(status for status in (FAILING, DEGRADED, OK) if status in statuses)
        return {"status": worst, "parts": parts}

    def _api_token(self) -> Part:
        self.token.value()
        return {"status": OK}

    def _realtimekit(self) -> Part:
        self.realtimekit.probe()
        return {"status": OK}

    def _recordings_table(self) -> Part:
        self.catalogue.get(_SOME_ID)
        return {"status": OK}

    def _work_table(self) -> Part:
        oldest = self.worklist.oldest_due()
        if oldest is None:
            return {"status": OK, "seconds_overdue": 0}
        overdue = int((self.now() - datetime.fromisoformat(oldest)).total_seconds())
        status = DEGRADED if overdue > MAX_OVERDUE_SECONDS else OK
        return {"status": status, "seconds_overdue": overdue}

    def _queues(self) -> Part:
        counts = {name: self._waiting(url) for name, url in self.queues.items()}
        dead = any(count for name, count in counts.items() if name.endswith("letters"))
        return {"status": DEGRADED if dead else OK, "messages": counts}

    def _waiting(self, url: str) -> int:
        answer = self.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def _archive(self) -> Part:
        if self.archive:
            self.archive.probe()
            if self.archive.is_elsewhere():
                return {"status": FAILING, "cause": "other_region"}
        return {"status": OK}


def _looked(look: Callable[[], Part]) -> Part:
    """What was seen, or why nothing was: by kind, for messages of AWS name accounts and roles."""
    try:
        return look()
    except ThrottledError as error:
        return {"status": DEGRADED, "cause": error.cause}
    except RealtimeKitError as error:
        return {"status": FAILING, "cause": error.cause}
    except ClientError as error:
        return {"status": FAILING, "cause": error.response["Error"]["Code"]}
    except BotoCoreError as error:
        return {"status": FAILING, "cause": type(error).__name__}
