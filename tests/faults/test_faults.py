"""No recording is lost, none is double, no secret leaks: whatever goes wrong, by a seed."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import truth
from faults.clock import SharedClock
from faults.plan import ORIGIN, Plan
from faults.simulation import Simulation
from faults.workers import Workers

from local.simulator import DEFAULT_TOKEN, Simulator, World
from local.stack import ROOT, LocalStack, parameters

PER_5_MINUTES = 210


@contextlib.contextmanager
def simulation(plan: Plan, folder: Path) -> Iterator[Simulation]:
    """A stack of its own, ready to run."""
    clock_file = folder / "clock"
    clock = SharedClock.create(clock_file, ORIGIN)
    world = World(clock=clock, seed=plan.seed, reveals_secrets=True)
    plan.populate(world)
    with (
        Simulator(world) as simulator,
        LocalStack(
            parameters(simulator)
            | {"UpstreamRequestsPer5Minutes": str(PER_5_MINUTES), "ArchivePartMiB": "5"},
            plan.token(0),
            launcher=(ROOT / "tests/faults/clock.py", clock_file),
        ) as stack,
        Workers(
            stack.description["aws_endpoint_url"], ROOT / "functions", clock_file, folder / "log"
        ) as workers,
    ):
        simulator.tokens.add(plan.token(0))
        simulator.tokens.revoke(DEFAULT_TOKEN)
        yield Simulation(plan, clock, stack, simulator, workers)


def test_a_plain_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_and_check(Plan(request.config.getoption("--seed"), 20, faults=False), tmp_path)


def test_faults(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_and_check(
        Plan(request.config.getoption("--seed"), request.config.getoption("--meetings")), tmp_path
    )


def run_and_check(plan: Plan, folder: Path) -> None:
    with simulation(plan, folder) as sim:
        url = subscribe(sim)
        for delivery in plan.deliveries(sim.simulator.world):
            sim.at(delivery.at, lambda delivery=delivery: sim.deliver(delivery))
        for at, name, fault in plan.upstream_faults():
            sim.at(
                at,
                lambda fault=fault: sim.simulator.faults.add(
                    fault["effect"], path=fault["path"], times=fault["times"]
                ),
            )
        sim.run()
        sim.clock.move_to(max(sim.clock.time(), ORIGIN.timestamp() + plan.busy_seconds + 86400))
        sim.sync([r for r in sim.simulator.world.recordings() if r.id not in sim.told])
        sim.run()
        heard = hear(sim, url)
        log = (folder / "log").read_text()
        print(sim.met, sim._counts, len(sim.simulator.requests), sim.clock.now())
        truth.check_work(sim)
        truth.check_catalogue(sim)
        truth.check_archive(sim)
        truth.check_history(sim)
        truth.check_events(sim, heard)
        truth.check_budget(sim, PER_5_MINUTES)
        truth.check_dead_letters(sim, Counter())
        truth.check_forgeries(sim)
        truth.check_secrets(sim, log, heard)


def subscribe(sim: Simulation) -> str:
    sqs, events = sim.stack.client("sqs"), sim.stack.client("events")
    url: str = sqs.create_queue(
        QueueName="subscriber", Attributes={"MessageRetentionPeriod": "1209600"}
    )["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    bus = sim.stack.description["event_bus"]["name"]
    pattern = json.dumps({"source": ["realtimekit.recordings"]})
    events.put_rule(Name="subscriber", EventBusName=bus, EventPattern=pattern)
    target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
    events.put_targets(Rule="subscriber", EventBusName=bus, Targets=[target])
    return url


def hear(sim: Simulation, url: str) -> list:
    sqs = sim.stack.client("sqs")
    heard = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            heard.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return heard
