"""Findings: what one check of a deployed stack has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The verdict of a check; *cannot tell* means that the check found nothing out."""

    OK = "ok"
    WRONG = "wrong"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    `check` names the part that was checked ("rule of follow_up"). `detail` says what was found, or
    why nothing was found out. If something is wrong, `action` says what to do, and `heading` is the
    heading of docs/operations.md that helps. No text holds a secret.
    """

    check: str
    verdict: Verdict
    detail: str
    action: str = ""
    heading: str = ""


def ok(check: str, detail: str) -> Finding:
    """Return the finding that a thing is as it should be."""
    return Finding(check=check, verdict=Verdict.OK, detail=detail)


def wrong(check: str, detail: str, *, action: str, heading: str) -> Finding:
    """Return the finding that a thing is wrong, with what to do about it."""
    return Finding(
        check=check, verdict=Verdict.WRONG, detail=detail, action=action, heading=heading
    )


def cannot_tell(check: str, reason: str) -> Finding:
    """Return the finding that a check found nothing out, and why."""
    return Finding(check=check, verdict=Verdict.CANNOT_TELL, detail=reason)
