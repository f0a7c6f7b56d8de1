"""The budget of requests to RealtimeKit that all functions share, counted in the work table."""

from __future__ import annotations

from recordings.dynamodb import ConditionFailedError, Table
from recordings.worklist import Now, utcnow


class UpstreamBudget:
    """The number of requests that all functions together may send in any five minutes.

    Requests are counted in windows of 15 seconds. Any five minutes touch at most 21 windows, so
    each has room for a 21st of the limit. With a `share` below 1, a request is refused once all
    functions together have used that part of the window. The rest is left to other callers.
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
        # Any share of a window has room for at least one request.
        self._room = max(1, int(self._per_window * share))
        self._now = now
        # The requests that were taken and are not sent yet, and their window.
        self._reserved = 0
        self._reserved_window = 0
        self.used = 0.0

    def take(self) -> int:
        """Take one request. Return 0, or the seconds until the next window if this one is full.

        Afterwards `used` is the used part of the window in percent, counting all functions.
        """
        now = self._now().timestamp()
        window = int(now // self.WINDOW_SECONDS)
        if self._reserved and window == self._reserved_window:
            self._reserved -= 1
            return 0
        if self._add(window, 1):
            return 0
        self.used = 100 * self._room / self._per_window
        return max(1, round((window + 1) * self.WINDOW_SECONDS - now))

    def reserve(self, count: int) -> None:
        """Take so many requests in one write, for the next calls of `take` in this window.

        If the window has no room for all of them, none is taken, and `take` takes each by itself.
        """
        window = int(self._now().timestamp() // self.WINDOW_SECONDS)
        if count <= self._room and self._add(window, count):
            self._reserved, self._reserved_window = count, window

    def _add(self, window: int, count: int) -> bool:
        """Count requests in a window. Return False, without counting, if it has no room."""
        try:
            row = self._table.update(
                {"work_id": self._window_id(window)},
                "SET #expires_at = :expires_at ADD #used :count",
                {
                    "expires_at": self._window_expiry(window),
                    "count": count,
                    "limit": self._room - count,
                },
                "attribute_not_exists(#used) OR #used <= :limit",
            )
        except ConditionFailedError:
            return False
        self.used = 100 * row["used"] / self._per_window
        return True

    def close(self, seconds: int) -> None:
        """Mark the windows of so many seconds as full, because a 429 holds for every function.

        At most 24 windows, six minutes: Cloudflare's penalty lasts five.
        """
        self._reserved = 0
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
