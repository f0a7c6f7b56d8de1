"""Cold start, warm time and memory of every function, beside what it can be compared to.

Each is run by AWS's runtime client, over TLS; what AWS and RealtimeKit answered once is played back
to it. AWS gives a function a whole processor until it is initialised, and then a share that goes by
its memory. So a cold start takes the processor's time of the initialisation, and of the first
invocation so many times its time as the share is smaller. Time of the processor is what is
measured: it is the same however many others share this machine.
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

from .calls import calls, is_kept
from .cpu_share import FULL_MB
from .life import LOOPBACK, PYTHON, Play, package
from .runtime import Run, Runtime
from .wire import Exchange, Wire, play_back

PLAIN_BUILD = ROOT / ".local/plain"
HANDLERS = "bench.handlers"
# boto3 and the SDK, whole, and with their bytecode.
WHOLE = f"{ROOT}:{sysconfig.get_path('purelib')}"
SIZES = (256, 512, FULL_MB)
ROUNDS = 5
WARM = 30
THROTTLED_MB = 256

OURS, EMPTY, SAM_BUILD, SAME_CALLS = "ours", "empty", "sam build", "same calls"
SAM_BUILD_COLD = "sam build, not warmed up"
BARE_BOTO3, BARE_SDK = "boto3, bare", "SDK, bare"


@dataclass(frozen=True)
class Variant:
    """Something to be measured: a handler in a package."""

    path: str
    handler: str
    environment: Mapping[str, str | None]
    event: Any
    exchanges: list[Exchange]


@dataclass
class Measured:
    """The runs of one variant."""

    runs: list[Run] = field(default_factory=list)

    def cold(self, memory_mb: int) -> float:
        """Seconds until the first answer."""
        return self.init() + self._median(lambda run: run.processor.first) / _share(memory_mb)

    def init(self) -> float:
        """Seconds until it is initialised."""
        return self._median(lambda run: run.processor.init)

    def warm(self, memory_mb: int) -> float:
        """Seconds of a later invocation."""
        return self._median(lambda run: run.processor.warm) / _share(memory_mb)

    def throttled(self) -> float:
        """Seconds until the first answer, by the clock."""
        return self._median(lambda run: run.clock.init + run.clock.first)

    def peak_bytes(self) -> float:
        """The most memory that it took."""
        return self._median(lambda run: run.peak_bytes)

    def _median(self, of: Callable[[Run], float]) -> float:
        return statistics.median(map(of, self.runs))


def _share(memory_mb: int) -> float:
    return min(1, memory_mb / FULL_MB)


Results = dict[tuple[str, str], Measured]
"""By function and variant."""


def plain_package() -> Path:
    """What `sam build` alone delivers."""
    [found] = [path for path in PLAIN_BUILD.iterdir() if path.is_dir()]
    return found


def variants(played: Play, folder: Path) -> dict[tuple[str, str], Variant]:
    """By function and what it is compared to."""
    found = {}
    for name, function in played.functions.items():
        invocation = played.busiest(name)
        kept = [one for one in played.exchanges(name) if is_kept(one[0])]
        exchanges = [*kept, *(one for one in invocation.exchanges if not is_kept(one[0]))]
        file = folder / f"{name}.json"
        file.write_text(json.dumps(calls(kept, invocation)))
        environment = played.environment(name)
        same = {**environment, "BENCH_CALLS": str(file)}
        for variant, path, handler, variables in (
            (OURS, str(package()), function.handler, environment),
            (SAM_BUILD, str(plain_package()), function.handler, environment),
            (SAME_CALLS, WHOLE, f"{HANDLERS}.same_calls.handler", same),
        ):
            found[name, variant] = Variant(path, handler, variables, invocation.event, exchanges)
    found["", EMPTY] = Variant(str(ROOT), f"{HANDLERS}.empty.handler", environment, {}, [])
    return found | _bare(found["ingest_recording", OURS])


def _bare(ours: Variant) -> dict[tuple[str, str], Variant]:
    """The work of `ingest_recording` in the fewest calls, by boto3 and by Cloudflare's SDK."""
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
    at: Wire,
    wanted: Mapping[tuple[str, str], Variant],
    rounds: int,
    memory_mb: int = FULL_MB,
    warm: int = WARM,
) -> Results:
    """All rounds of all variants, in turns."""
    results: Results = {key: Measured() for key in wanted}
    for number in range(rounds):
        for key, variant in wanted.items():
            results[key].runs.append(_run(at, variant, memory_mb, warm))
            print(f"round {number + 1}, {' '.join(key):40}", end="\r", file=sys.stderr, flush=True)
    return results


def measure_throttled(at: Wire, wanted: Mapping[tuple[str, str], Variant], rounds: int) -> Results:
    """By the clock, with the share of a processor given out by the kernel: a check on the rest."""
    of_ingest = {key: one for key, one in wanted.items() if key[0] == "ingest_recording"}
    return measure(at, of_ingest, rounds, THROTTLED_MB, 0)


def _run(at: Wire, variant: Variant, memory_mb: int, warm: int) -> Run:
    at.answerer = play_back(variant.exchanges)
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
