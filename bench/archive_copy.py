"""The copy of a file to S3, side by side with what it can be compared to.

    make bench-copy [SIZES=64,1024,4096]

Source and bucket are on loopback, over TLS; each copy runs in a process of its own. `splice` reads
a buffer and writes it, without S3's protocol and checksum: the floor of any copy. Machines are
noisy: rounds alternate, medians are taken, and ratios are what to trust.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024
WAYS = ("download", "splice", "upload_fileobj", "archive")
WARM_UP = MIB
BUFFER = MIB


@dataclass(frozen=True)
class Copy:
    """What one copy took: seconds of time and of processors, and bytes of memory above idle."""

    wall: float
    cpu: float
    memory: int


def download(origin: str, certificate: str) -> Callable[[int], None]:
    """To nowhere, by plain urllib3: the limit of the line."""
    http = _http(certificate)

    def copy(size: int) -> None:
        response = http.request("GET", _source(origin, size), preload_content=False)
        while response.read(BUFFER):
            pass
        response.release_conn()

    return copy


def splice(origin: str, certificate: str) -> Callable[[int], None]:
    """Read a buffer, write a buffer."""
    http = _http(certificate)

    def copy(size: int) -> None:
        response = http.request("GET", _source(origin, size), preload_content=False)

        def chunks() -> Iterator[bytes]:
            while chunk := response.read(BUFFER):
                yield chunk

        url = f"{origin}/bucket/{size}"
        answer = http.request("PUT", url, body=chunks(), headers={"Content-Length": str(size)})
        response.release_conn()
        _expect(answer.status == 200)

    return copy


def upload_fileobj(origin: str, certificate: str) -> Callable[[int], None]:
    """boto3's one line, with its defaults."""
    http = _http(certificate)
    s3 = _s3(origin, certificate, {})

    def copy(size: int) -> None:
        response = http.request("GET", _source(origin, size), preload_content=False)
        s3.upload_fileobj(response, "bucket", str(size))
        response.release_conn()

    return copy


def archive(origin: str, certificate: str) -> Callable[[int], None]:
    """Ours, as the function does it."""
    sys.path.insert(0, str(ROOT / "functions"))
    from recordings.archive import S3_CONFIG, Archive, Upload
    from recordings.media import Media

    context = ssl.create_default_context(cafile=certificate)
    media = Media(("https://127.0.0.1",), ssl_context=context)
    s3 = _s3(origin, certificate, {**S3_CONFIG, "max_pool_connections": 16})
    archive = Archive(s3, "bucket")

    def copy(size: int) -> None:
        file = media.open(_source(origin, size))
        upload = archive.begin(str(size), file, "recording")
        if not isinstance(upload, Upload):
            raise TypeError("an object in a storage that keeps none")
        archive.copy(file, upload, lambda: False)

    return copy


def _source(origin: str, size: int) -> str:
    return f"{origin}/media/{size}/recording.mp4?X-Amz-Signature=none"


def _http(certificate: str) -> Any:
    import urllib3

    return urllib3.PoolManager(ca_certs=certificate, retries=False)


def _s3(origin: str, certificate: str, config: Mapping[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=origin,
        verify=certificate,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        config=Config(proxies={}, **{**config, "s3": {**config.get("s3", {}), **_BY_PATH}}),
    )


_BY_PATH = {"addressing_style": "path"}


def _expect(kept: bool) -> None:
    if not kept:
        raise RuntimeError("the copy failed")


def measure_here(way: str, size: int, origin: str, certificate: str) -> Copy:
    """In this process, which has done nothing else."""
    makers = {maker.__name__: maker for maker in (download, splice, upload_fileobj, archive)}
    copy = makers[way](origin, certificate)
    copy(WARM_UP)
    idle = _memory("VmRSS")
    # The high-water mark starts anew (Linux, proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    wall, cpu = time.perf_counter(), _cpu()
    copy(size)
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    return Copy(wall, cpu, _memory("VmHWM") - idle)


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith(name)]
    return int(line.split()[1]) * 1024


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(sizes: list[int], rounds: int) -> dict[tuple[int, str], list[Copy]]:
    """All rounds of all ways, each in a process of its own."""
    from .tls_storage import tls_storage

    found: dict[tuple[int, str], list[Copy]] = {(s, way): [] for s in sizes for way in WAYS}
    with (
        tempfile.TemporaryDirectory() as folder,
        tls_storage(Path(folder), [WARM_UP, *sizes]) as (origin, certificate),
    ):
        for number in range(rounds):
            for (size, way), copies in found.items():
                print(f"round {number + 1}: {way}, {size // MIB} MiB  ", end="\r", file=sys.stderr)
                command = [sys.executable, "-m", "bench.archive_copy", "--one", way, str(size)]
                ran = subprocess.run(
                    [*command, origin, str(certificate)],
                    cwd=ROOT,
                    env={"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"},
                    stdout=subprocess.PIPE,
                    check=True,
                )
                copies.append(Copy(**json.loads(ran.stdout)))
    return found


def table(found: Mapping[tuple[int, str], list[Copy]]) -> Iterator[str]:
    """Its lines, and what became of the targets."""
    yield f"{'':22} {'MB/s':>6} {'÷ splice':>9} {'÷ boto3':>8} {'CPU s/GiB':>10} {'memory MiB':>11}"
    worst = {"÷ splice": 9e9, "÷ boto3": 9e9, "memory": 0.0}
    for (size, way), copies in found.items():
        wall = statistics.median(copy.wall for copy in copies)
        cpu = statistics.median(copy.cpu for copy in copies) * 1024 * MIB / size
        memory = statistics.median(copy.memory for copy in copies) / MIB
        to = {other: _ratio(found[size, other], copies) for other in ("splice", "upload_fileobj")}
        yield (
            f"{size // MIB:5} MiB {way:15} {size / wall / 1e6:5.0f} {to['splice']:9.2f}"
            f" {to['upload_fileobj']:8.2f} {cpu:10.2f} {memory:11.0f}"
        )
        if way == "archive":
            worst["÷ splice"] = min(worst["÷ splice"], to["splice"])
            worst["÷ boto3"] = min(worst["÷ boto3"], to["upload_fileobj"])
            worst["memory"] = max(worst["memory"], memory)
    yield "archive at its worst:"
    yield f"  {worst['÷ splice']:.2f} of the splice's speed (target 0.65)"
    yield f"  {worst['÷ boto3']:.2f} times the speed of boto3's upload_fileobj (target 1.5)"
    yield f"  {worst['memory']:.0f} MiB of memory above idle (target: below 64)"


def _ratio(base: list[Copy], copies: list[Copy]) -> float:
    """How much faster than the base, in the same round."""
    return statistics.median(b.wall / c.wall for b, c in zip(base, copies, strict=True))


def main() -> None:
    """Print the table; or, in a process of its own, measure one copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="64,1024,4096", help="in MiB, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=4, metavar=("WAY", "SIZE", "ORIGIN", "CERTIFICATE"))
    arguments = parser.parse_args()
    if arguments.one:
        way, size, origin, certificate = arguments.one
        print(json.dumps(asdict(measure_here(way, int(size), origin, certificate))))
        return
    sizes = [int(size) * MIB for size in arguments.sizes.split(",")]
    for line in table(measure(sizes, arguments.rounds)):
        print(line)


if __name__ == "__main__":
    main()
