"""Seed and size of the simulation: `make soak SEED=… MEETINGS=…`."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("faults.truth")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="of the fault suite")
    parser.addoption("--meetings", type=int, default=80, help="in the fault suite")
