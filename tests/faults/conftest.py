"""A simulation that has run, by the seed and the size that `make soak` names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.clock import SharedClock
from faults.plan import ORIGIN, Plan
from faults.simulation import Simulation
from faults.workers import Workers
from local.stack import ROOT, LocalStack, parameters
from realtimekit_simulator import DEFAULT_TOKEN, Simulator, World

PER_5_MINUTES = 210
"""A budget of requests that is spent now and then."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="of the fault suite")
    parser.addoption("--meetings", type=int, default=20, help="in the fault suite")


# Workers share nothing (pytest-xdist): one has all tests of a simulation.
@pytest.fixture(
    scope="package",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name))
        for name in ("nothing goes wrong", "faults")
    ],
)
def simulated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Simulation]:
    """Yield a simulation that has ended: one of few meetings without faults, one with faults."""
    seed = request.config.getoption("--seed", 1)
    meetings = request.config.getoption("--meetings", 20)
    has_faults = request.param == "faults"
    plan = Plan(seed, meetings if has_faults else 6, faults=has_faults)
    folder = tmp_path_factory.mktemp("faults")
    clock = SharedClock.create(folder / "clock", ORIGIN)
    # A SharedClock behaves like a Clock, and other processes read it too.
    world = World(clock=clock, seed=seed, reveals_secrets=True)  # type: ignore[arg-type]
    plan.populate(world)
    settings = {"UpstreamRequestsPer5Minutes": str(PER_5_MINUTES), "ArchivePartMiB": "5"}
    if plan.names_organization:
        settings["OrganizationId"] = world.organization_id
    print(f"To see this again: make soak SEED={seed} MEETINGS={meetings}")
    with (
        Simulator(world) as simulator,
        LocalStack(
            parameters(simulator) | settings,
            plan.token(0),
            launcher=(ROOT / "tests/faults/clock.py", folder / "clock"),
        ) as stack,
        Workers(
            stack.description["aws_endpoint_url"], clock, folder / "log", plan.threads
        ) as workers,
    ):
        simulator.tokens.add(plan.token(0))
        simulator.tokens.revoke(DEFAULT_TOKEN)
        simulation = Simulation(plan, clock, stack, simulator, workers)
        simulation.run()
        yield simulation


@pytest.fixture
def per_5_minutes() -> int:
    return PER_5_MINUTES
