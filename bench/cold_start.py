"""The bench of cold start, warm time and memory, for every function and its variants.

AWS's runtime client runs each variant, over TLS. The bench plays back the answers that AWS and
RealtimeKit once gave. AWS gives a function a whole processor until it is initialised, and then a
share in proportion to its memory. So a cold start is the processor time of the initialisation, plus
that of the first invocation divided by the share. Processor time is measured because it hardly
depends on other programs on this machine.
"""

from __future__ import annotations

import json
import statistics
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local.stack import ROOT

from .calls import calls, is_cached
from .cpu_share import FULL_MB
from .life import LOOPBACK, PYTHON, Play, package
from .runtime import Run, Runtime
from .wire import Exchange, Wire, play_back

PLAIN_BUILD = ROOT / ".local/plain"
HANDLERS = "bench.handlers"
# boto3 and the Cloudflare SDK, untrimmed, with their bytecode.
WHOLE = f"{ROOT}:{sysconfig.get_path('purelib')}"
SIZES = (256, 512, FULL_MB)
ROUNDS = 5
WARM_INVOCATIONS = 30
THROTTLED_MB = 256

OURS, EMPTY, SAM_BUILD, SAME_CALLS = "ours", "empty", "sam build", "same calls"
SAM_BUILD_COLD = "sam build, not warmed up"
BARE_BOTO3, BARE_SDK = "boto3, bare", "SDK, bare"


@dataclass(frozen=True)
class Variant:
    """A handler in a package, with the event it gets and the exchanges to play back to it."""

    path: str
    handler: str
    environment: Mapping[str, str | None]
    event: Any
    exchanges: list[Exchange]


@dataclass
class Measured:
    """The runs of one variant; all figures are medians over the runs."""

    runs: list[Run] = field(default_factory=list)

    def cold(self, memory_mb: int) -> float:
        """Return the seconds until the first answer, with the processor share of that memory."""
        return self.init() + self._median(lambda run: run.processor.first) / _share(memory_mb)

    def init(self) -> float:
        """Return the processor seconds of the initialisation."""
        return self._median(lambda run: run.processor.init)

    def warm(self, memory_mb: int) -> float:
        """Return the seconds of a later invocation, with the processor share of that memory."""
        return self._median(lambda run: run.processor.warm) / _share(memory_mb)

    def throttled(self) -> float:
        """Return the seconds until the first answer, by the clock."""
        return self._median(lambda run: run.clock.init + run.clock.first)

    def peak_bytes(self) -> float:
        """Return the peak of the memory in bytes."""
        return self._median(lambda run: run.peak_bytes)

    def _median(self, of: Callable[[Run], float]) -> float:
        return statistics.median(map(of, self.runs))


def _share(memory_mb: int) -> float:
    return min(1, memory_mb / FULL_MB)


Results = dict[tuple[str, str], Measured]
"""Measurements by the names of function and variant."""


def plain_package() -> Path:
    """Return the folder that `sam build` alone made, without trimming and bytecode."""
    [folder] = [path for path in PLAIN_BUILD.iterdir() if path.is_dir()]
    return folder


def variants(played: Play, folder: Path) -> dict[tuple[str, str], Variant]:
    """Return all variants to measure, by the names of function and variant."""
    compared = {}
    for name, function in played.functions.items():
        invocation = played.busiest(name)
        cached = [exchange for exchange in played.exchanges(name) if is_cached(exchange[0])]
        uncached = [exchange for exchange in invocation.exchanges if not is_cached(exchange[0])]
        exchanges = [*cached, *uncached]
        file = folder / f"{name}.json"
        file.write_text(json.dumps(calls(cached, invocation)))
        environment = played.environment(name)
        same = {**environment, "BENCH_CALLS": str(file)}
        for variant, path, handler, variables in (
            (OURS, str(package()), function.handler, environment),
            (SAM_BUILD, str(plain_package()), function.handler, environment),
            (SAME_CALLS, WHOLE, f"{HANDLERS}.same_calls.handler", same),
        ):
            compared[name, variant] = Variant(path, handler, variables, invocation.event, exchanges)
    compared["", EMPTY] = Variant(str(ROOT), f"{HANDLERS}.empty.handler", environment, {}, [])
    return compared | _bare_variants(compared["ingest_recording", OURS])


def _bare_variants(ours: Variant) -> dict[tuple[str, str], Variant]:
    """Return three further variants of `ingest_recording`.

    One is `sam build`'s package without our warm-up. Two do the same work in the fewest calls, by
    boto3 and by Cloudflare's SDK.
    """
    [path] = [request.path for request, _ in ours.exchanges if request.host == "api.cloudflare.com"]
    variables = {**ours.environment, "BENCH_RECORDING_ID": path.rpartition("/")[2]}
    unwarmed = {**ours.environment, "AWS_LAMBDA_INITIALIZATION_TYPE": None}
    plain = str(plain_package())
    return {
        ("ingest_recording", SAM_BUILD_COLD): replace(ours, path=plain, environment=unwarmed)
    } | {
        ("ingest_recording", variant): Variant(
            WHOLE, f"{HANDLERS}.{module}.handler", variables, ours.event, ours.exchanges
        )
        for variant, module in (
            (BARE_BOTO3, "ingest_with_boto3"),
            (BARE_SDK, "ingest_with_sdk"),
        )
    }


def measure(
    wire: Wire,
    compared: Mapping[tuple[str, str], Variant],
    rounds: int,
    memory_mb: int = FULL_MB,
    warm: int = WARM_INVOCATIONS,
) -> Results:
    """Run all rounds, in which the variants take turns, and return the measurements."""
    results: Results = {key: Measured() for key in compared}
    for number in range(rounds):
        for key, variant in compared.items():
            results[key].runs.append(_run(wire, variant, memory_mb, warm))
            print(f"round {number + 1}, {' '.join(key):40}", end="\r", file=sys.stderr, flush=True)
    return results


def measure_throttled(
    wire: Wire, compared: Mapping[tuple[str, str], Variant], rounds: int
) -> Results:
    """Measure ingest_recording's variants with a limited share of a processor.

    Their clock time then checks the figures that are computed from processor time.
    """
    of_ingest = {key: compared[key] for key in compared if key[0] == "ingest_recording"}
    return measure(wire, of_ingest, rounds, THROTTLED_MB, 0)


def _run(wire: Wire, variant: Variant, memory_mb: int, warm: int) -> Run:
    wire.answerer = play_back(variant.exchanges)
    place = {"PYTHONPATH": f"{LOOPBACK}:{variant.path}"}
    runtime = Runtime(
        PYTHON,
        Path(variant.path.partition(":")[0]),
        variant.handler,
        {**variant.environment, **place},
        memory_mb,
    )
    with runtime:
        return runtime.run(variant.event, warm)
