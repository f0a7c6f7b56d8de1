"""Gaps of the local stack's emulator, where a check can tell nothing about the stack."""

from __future__ import annotations

from collections.abc import Mapping

from .finding import Finding, Verdict, cannot_tell

_NOT_TAKEN = "The emulator ignores this part of the template."

GAPS: Mapping[str, str] = {
    "backups of RecordingsTable": _NOT_TAKEN,
    "backups of WorkTable": _NOT_TAKEN,
    "bucket's lifecycle": _NOT_TAKEN,
    "bucket without TLS": "The emulator speaks only http.",
    "role of publish_changes": "The emulator does not know the condition on events:source.",
    "subscribers": "A local stack has no subscribers, because its alarms never go off.",
}
"""The reason why a finding says nothing about the stack there, by the check's name."""


def without_gap(finding: Finding) -> Finding:
    """Return *cannot tell* for a finding that is only the emulator's; else the finding itself."""
    if finding.verdict is Verdict.WRONG and finding.check in GAPS:
        return cannot_tell(finding.check, GAPS[finding.check])
    return finding
