"""The waiting times of webhooks and of a backlog of files that share RealtimeKit's budget."""

from __future__ import annotations

from collections import deque

import archive_recording
from doubles import AnyRequest, Clock
from recordings.budget import UpstreamBudget
from recordings.dynamodb import Table
from recordings.worklist import Worklist

DEADLINE = "2026-06-10T10:30:00.000Z"
FILES = 300
SECONDS = 120
WEBHOOK_EVERY = 3
TICK_EVERY = 60
MAX_CHECKS = 180
# As many runs at a time as `ArchiveConcurrency` allows; each takes a second.
AT_A_TIME = 5


class Service:
    """Two functions and the ticks, as far as they share the budget."""

    def __init__(self, table: Table, worklist: Worklist, clock: Clock, share: float) -> None:
        self.worklist = worklist
        self.news = UpstreamBudget(table, "app", 1000, clock)
        self.archive = UpstreamBudget(table, "app", 1000, clock, share=share)
        # When a message can be received, and which file it is about.
        self.files = deque((0, n) for n in range(FILES))
        self.webhooks: deque[int] = deque()
        self.waits: list[int] = []
        self.refused = 0

    def tick(self, second: int) -> None:
        for n, check in enumerate(self.worklist.due(MAX_CHECKS)):
            self.worklist.advance(check)
            asked = int(check.request["n"])
            if check.deadline:
                self.files.append((second + n // 10 * 9, asked))
            else:
                self.webhooks.append(asked)

    def archive_files(self, second: int) -> None:
        for _ in range(AT_A_TIME):
            if not self.files or self.files[0][0] > second:
                return
            _, n = self.files.popleft()
            if wait := self.archive.take():
                self.refused += 1
                self.worklist.check_in(
                    AnyRequest(f"archive#{n}", {"n": n}),
                    "budget_spent",
                    seconds=wait,
                    deadline=DEADLINE,
                )
            else:
                self.worklist.settle(f"archive#{n}")

    def ingest(self, second: int) -> None:
        while self.webhooks:
            sent_at = self.webhooks.popleft()
            key = f"recording#{sent_at}"
            if wait := self.news.take():
                self.worklist.check_in(
                    AnyRequest(key, {"n": sent_at}), "budget_spent", seconds=max(60, wait)
                )
            else:
                self.worklist.settle(key)
                self.waits.append(second - sent_at)


def test_webhooks_do_not_wait_for_a_backlog_of_files(
    work_table: Table, worklist: Worklist, clock: Clock
) -> None:
    service = Service(work_table, worklist, clock, archive_recording.SHARE)

    for second in range(SECONDS):
        if second % TICK_EVERY == 0:
            service.tick(second)
        service.archive_files(second)
        if second % WEBHOOK_EVERY == 0:
            service.webhooks.append(second)
        service.ingest(second)
        clock.advance(1)

    assert service.waits == [0] * (SECONDS // WEBHOOK_EVERY)
    # A file is refused once at most: then it comes back when there is room for it.
    assert service.refused < FILES
