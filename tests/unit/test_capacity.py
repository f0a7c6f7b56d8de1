"""The units that benches count: the sizes are worked out by AWS's documentation, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench import capacity

KEY = ("partition", "sort")


def text(length: int) -> dict[str, Any]:
    """Return an item of so many bytes."""
    return {"a": {"S": "x" * (length - 1)}}


def entry(sort: str, title: str = "Weekly sync") -> dict[str, Any]:
    return {"partition": {"S": "p"}, "sort": {"S": sort}, "title": {"S": title}}


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "Grüße"}, 7),
        ({"N": "0"}, 1),
        ({"N": "1800"}, 2),
        ({"N": "149999400"}, 5),
        ({"N": "-12.5"}, 4),
        ({"BOOL": True}, 1),
        ({"B": "AAECAw=="}, 4),
        ({"L": []}, 3),
        ({"L": [{"S": "ab"}, {"S": "c"}]}, 8),
        ({"M": {"kind": {"S": "video"}, "size": {"N": "12"}}}, 20),
    ],
)
def test_an_attribute_is_as_large_as_its_name_and_its_value(
    value: dict[str, Any], size: int
) -> None:
    assert capacity.size({"name": value}) == 4 + size


@pytest.mark.parametrize(
    ("before", "after", "units"),
    [
        (None, text(1024), 1),
        (None, text(1025), 2),
        (text(3000), text(10), 3),
        (text(2049), None, 3),
        (None, None, 1),
    ],
)
def test_a_write_costs_each_kilobyte_of_the_larger_of_before_and_after(
    before: Any, after: Any, units: int
) -> None:
    assert capacity.written(before, after) == units


@pytest.mark.parametrize(
    ("before", "after", "units"),
    [
        (None, None, 0),
        (entry("1"), entry("1"), 0),
        (None, entry("1"), 1),
        (entry("1"), None, 1),
        (entry("1"), entry("1", "Retrospective"), 1),
        (entry("1"), entry("2"), 2),
    ],
)
def test_an_index_costs_what_it_shows_of_the_change_and_twice_where_the_key_moves(
    before: Any, after: Any, units: int
) -> None:
    assert capacity.written_to_index(before, after, KEY) == units


def test_a_read_costs_each_4_kilobytes_of_all_its_items_and_half_unless_consistent() -> None:
    assert capacity.read([text(4096)], consistent=True) == 1
    assert capacity.read([text(4096), text(1)], consistent=True) == 2
    assert capacity.read([text(4097)]) == 1
    assert capacity.read([]) == 0.5
