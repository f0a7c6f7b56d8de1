"""The emulator ministack with four faults patched, as a script that `local.aws` runs.

The patches replace private functions, so ministack's version is pinned.

1. For multipart uploads, ministack knows COMPOSITE checksums only and refuses a completion that
   gives the CRC-32 of all bytes. S3 accepts and checks such a full object checksum (AWS docs,
   "Checking object integrity in Amazon S3").
2. A queue's MaximumConcurrency stays text when it comes from a template parameter. That text stops
   the delivery of all queues.
3. ministack's CloudFormation refuses saved queries of CloudWatch Logs. The patch accepts and
   ignores them, because the local stack does not read them.
4. ministack's EventBridge has API destinations, connections and archives, but its CloudFormation
   does not know these resources. The patch creates them in its EventBridge.

The script ends with its parent, however that ends: the parent holds the other end of its standard
input.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import runpy
import signal
import sys
import threading
import zlib
from collections.abc import Mapping
from typing import Any

from ministack.services import eventbridge, lambda_svc, s3  # type: ignore[import-untyped]
from ministack.services.cloudformation import provisioners  # type: ignore[import-untyped]

_COMPLETE = s3._complete_multipart_upload
_CONCURRENCY = lambda_svc._sqs_esm_concurrency


@functools.wraps(_COMPLETE)
def _complete_multipart_upload(
    bucket: str, key: str, body: bytes, query: Mapping[str, Any], headers: dict[str, str] | None
) -> Any:
    remaining_headers = dict(headers or {})
    upload = s3._multipart_uploads.get(s3._qp(query, "uploadId"))
    if remaining_headers.pop("x-amz-checksum-type", "") != "FULL_OBJECT" or upload is None:
        return _COMPLETE(bucket, key, body, query, headers)
    checksum = _crc32(upload["parts"])
    if remaining_headers.pop("x-amz-checksum-crc32", checksum) != checksum:
        message = "The CRC32 you specified did not match the calculated checksum."
        return s3._error("BadDigest", message, 400, f"/{bucket}/{key}")
    answer = _COMPLETE(bucket, key, body, query, remaining_headers)
    if answer[0] == 200:
        stored = s3._buckets[bucket]["objects"][key]
        stored |= {"checksums": {"CRC32": checksum}, "checksum_type": "FULL_OBJECT"}
    return answer


def _crc32(parts: Mapping[int, Mapping[str, Any]]) -> str:
    """Return the CRC-32 of all parts in order, in base64 as S3 writes it."""
    checksum = 0
    for _, part in sorted(parts.items()):
        checksum = zlib.crc32(part["body"], checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def _sqs_esm_concurrency(mapping: dict[str, Any], *others: Any) -> int:
    scaling = mapping.get("ScalingConfig") or {}
    numbers = {name: int(value) for name, value in scaling.items()}
    limit: int = _CONCURRENCY({**mapping, "ScalingConfig": numbers}, *others)
    return limit


def _save_query(logical_id: str, *_: Any) -> tuple[str, dict[str, str]]:
    return logical_id, {}


def _forget_query(*_: Any) -> None:
    pass


class _EventsResource:
    """One of EventBridge's resources, created and deleted by ministack's own operations."""

    def __init__(self, kind: str, name_key: str) -> None:
        self._create = getattr(eventbridge, f"_create_{kind}")
        self._delete = getattr(eventbridge, f"_delete_{kind}")
        self._name_key = name_key

    def handlers(self) -> dict[str, Any]:
        return {"create": self.create, "delete": self.delete}

    def create(
        self, logical_id: str, properties: Mapping[str, Any], stack: str
    ) -> tuple[str, dict[str, str]]:
        name = provisioners._physical_name(stack, logical_id, max_len=48)
        request = {**properties, self._name_key: name}
        if "SourceArn" in request:
            request["EventSourceArn"] = request.pop("SourceArn")
        # The operations take a pattern as text, CloudFormation as a document.
        if isinstance(request.get("EventPattern"), dict):
            request["EventPattern"] = json.dumps(request["EventPattern"])
        status, _, body = self._create(request)
        if status != 200:
            raise ValueError(body)
        answer = json.loads(body)
        [arn] = [value for key, value in answer.items() if key.endswith("Arn")]
        return name, {"Arn": arn}

    def delete(self, name: str, _: Mapping[str, Any]) -> None:
        self._delete({self._name_key: name})


def _end_with_parent() -> None:
    """Kill this process and the function runtimes, its group, when standard input is closed."""
    # The runtimes are to inherit an empty input, not the parent's pipe.
    pipe = os.dup(sys.stdin.fileno())
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())

    def wait_and_kill() -> None:
        while os.read(pipe, 1024):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_and_kill, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
        "create": _save_query,
        "delete": _forget_query,
    }
    for type_, resource in {
        "ApiDestination": _EventsResource("api_destination", "Name"),
        "Archive": _EventsResource("archive", "ArchiveName"),
        "Connection": _EventsResource("connection", "Name"),
    }.items():
        provisioners._RESOURCE_HANDLERS[f"AWS::Events::{type_}"] = resource.handlers()
    s3._complete_multipart_upload = _complete_multipart_upload
    lambda_svc._sqs_esm_concurrency = _sqs_esm_concurrency
    runpy.run_module("ministack", run_name="__main__")
