"""The budget of requests to RealtimeKit that all functions share, counted in the work table."""

from __future__ import annotations

from recordings.dynamodb import ConditionFailedError, Table
from recordings.worklist import Now, utcnow


class UpstreamBudget:
    """How many requests all functions together may send to RealtimeKit in any five minutes.

    Counted in windows of 15 seconds. Any five minutes touch at most 21 of them, so each has room
    for a 21st of the limit: it holds wherever the five minutes begin. With a `share` below 1 a
    request is only taken while no more than that part of the window is used up, by whomever: the
    rest is for others.
    """

    WINDOW_SECONDS = 15
    _WINDOWS = 21

    def __init__(
        self,
        table: Table,
        app_id: str,
        per_5_minutes: int,
        now: Now = utcnow,
        *,
        share: float = 1,
    ) -> None:
        self._table = table
        self._app_id = app_id
        self._per_window = per_5_minutes // self._WINDOWS
        # Of one request in a window half is still one.
        self._room = max(1, int(self._per_window * share))
        self._now = now
        self.used = 0.0

    def take(self) -> int:
        """Take one request. 0, or the seconds until the next window where this one is used up.

        `used` is how much of the window was then used up, by all, in percent.
        """
        now = self._now().timestamp()
        window = int(now // self.WINDOW_SECONDS)
        try:
            row = self._table.update(
                {"work_id": self._window_id(window)},
                "SET #expires_at = :expires_at ADD #used :one",
                {"expires_at": self._window_expiry(window), "one": 1, "room": self._room},
                "attribute_not_exists(#used) OR #used < :room",
            )
        except ConditionFailedError:
            self.used = 100 * self._room / self._per_window
            return max(1, round((window + 1) * self.WINDOW_SECONDS - now))
        self.used = 100 * row["used"] / self._per_window
        return 0

    def close(self, seconds: int) -> None:
        """Use up the windows of so many seconds: what a 429 says to one copy holds for all.

        At most 24 windows, six minutes: longer than Cloudflare's penalty of five.
        """
        first = int(self._now().timestamp() // self.WINDOW_SECONDS)
        windows = range(first, first + min(seconds // self.WINDOW_SECONDS, 23) + 1)
        self._table.put_many(
            {
                "work_id": self._window_id(window),
                "used": self._per_window,
                "expires_at": self._window_expiry(window),
            }
            for window in windows
        )

    def _window_id(self, window: int) -> str:
        return f"budget#{self._app_id}#{window}"

    def _window_expiry(self, window: int) -> int:
        return (window + 1) * self.WINDOW_SECONDS + 3600
