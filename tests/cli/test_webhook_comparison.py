"""The comparison of registered webhooks with the wanted one, without a network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from realtimekit_recordings.webhooks import Settings, Webhook, compare, differences, find_own

WANTED = Settings(
    name="recordings",
    url="https://new.example/v1/webhooks/realtimekit",
    events=frozenset({"meeting.ended", "recording.statusUpdate"}),
)
OLD_URL = "https://old.example/v1/webhooks/realtimekit"


def webhook(webhook_id: str, **settings: object) -> Webhook:
    return Webhook(id=webhook_id, settings=replace(WANTED, **settings))  # type: ignore[arg-type]


OURS = webhook("ours")
MOVED = webhook("moved", url=OLD_URL)
RENAMED = webhook("renamed", name="by hand")
OTHERS = webhook("others", name="chat", url="https://other.example/hook")


@pytest.mark.parametrize(
    ("registered", "found"),
    [
        ([], []),
        ([OTHERS], []),
        ([OTHERS, OURS], ["ours"]),
        ([RENAMED], ["renamed"]),
        ([MOVED], ["moved"]),
        ([OURS, RENAMED], ["ours", "renamed"]),
        # One webhook posts to our URL, so another of our name is another stack's.
        ([MOVED, OURS], ["ours"]),
        ([MOVED, RENAMED], ["renamed"]),
        ([MOVED, webhook("moved too", url=OLD_URL)], ["moved", "moved too"]),
        # Two URLs with our name: either may be another stack's.
        ([MOVED, webhook("elsewhere", url="https://third.example/hook")], []),
    ],
)
def test_ours_are_those_of_our_url_or_else_of_our_name(registered, found):
    assert [one.id for one in find_own(WANTED, registered)] == found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"url": OLD_URL}, [f"url: {OLD_URL} -> https://new.example/v1/webhooks/realtimekit"]),
        ({"name": "by hand"}, ["name: by hand -> recordings"]),
        ({"enabled": False}, ["enabled: no -> yes"]),
        (
            {"events": frozenset({"meeting.ended"})},
            ["events: meeting.ended -> meeting.ended, recording.statusUpdate"],
        ),
        (
            {"events": frozenset({"recording.statusUpdate", "meeting.ended", "meeting.summary"})},
            [
                "events: meeting.ended, meeting.summary, recording.statusUpdate"
                " -> meeting.ended, recording.statusUpdate"
            ],
        ),
        (
            {"events": frozenset(), "enabled": False},
            ["events: none -> meeting.ended, recording.statusUpdate", "enabled: no -> yes"],
        ),
    ],
)
def test_each_setting_that_differs_is_named_with_both_its_values(settings, expected):
    assert list(map(str, differences(WANTED, replace(WANTED, **settings)))) == expected


@pytest.mark.parametrize(
    ("registered", "kept", "different", "surplus", "is_right"),
    [
        ([], None, [], [], False),
        ([OTHERS], None, [], [], False),
        ([OURS], "ours", [], [], True),
        ([OTHERS, OURS], "ours", [], [], True),
        ([MOVED], "moved", ["url"], [], False),
        ([webhook("off", enabled=False)], "off", ["enabled"], [], False),
        # The webhook with the fewest differences is kept, whatever its place in the list.
        ([webhook("off", enabled=False), OURS], "ours", [], ["off"], False),
        ([OURS, RENAMED, webhook("off", enabled=False)], "ours", [], ["renamed", "off"], False),
    ],
)
def test_one_is_kept_and_the_rest_of_ours_is_surplus(
    registered, kept, different, surplus, is_right
):
    comparison = compare(WANTED, registered)

    assert (comparison.webhook and comparison.webhook.id) == kept
    assert [difference.setting for difference in comparison.differences] == different
    assert [one.id for one in comparison.surplus] == surplus
    assert comparison.is_right is is_right
