"""A handler that repeats a function's calls with plain boto3 and urllib3.

The file BENCH_CALLS lists the calls: "once" has those whose answers a function caches, and "each"
those of every invocation.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import boto3
import urllib3

calls = json.loads(Path(os.environ["BENCH_CALLS"]).read_text())
services = {call["service"] for call in calls["once"] + calls["each"] if "service" in call}
clients = {service: boto3.client(service) for service in sorted(services)}
http = urllib3.PoolManager()
done: list[bool] = []


def handler(event: Any, context: Any) -> dict[str, int]:
    """Make the calls of an invocation, for any event."""
    for call in calls["each"] if done else calls["once"] + calls["each"]:
        make(call)
    done.append(True)
    return {"statusCode": 200}


def make(call: Any) -> None:
    """Make one call and read its answer."""
    if "url" in call:
        http.request("GET", call["url"], headers=call["headers"])
        return
    parameters = call["parameters"]
    if "Body" in parameters:
        parameters = {**parameters, "Body": base64.b64decode(parameters["Body"])}
    try:
        getattr(clients[call["service"]], call["operation"])(**parameters)
    except clients[call["service"]].exceptions.ClientError as error:
        # S3 answers with 404 when the object does not exist, or the bucket has no object lock.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
