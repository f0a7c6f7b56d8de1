"""The work of `ingest_with_boto3`, done with Cloudflare's SDK."""

import json
import os
from typing import Any

from cloudflare import Cloudflare

from .ingest_with_boto3 import secretsmanager, write

ACCOUNT_ID, APP_ID = os.environ["REALTIMEKIT_APP_URL"].split("/")[-4::3]
clients: list[Cloudflare] = []


def handler(event: Any, context: Any) -> None:
    """Fetch the bench's recording and write its row, for any event."""
    if not clients:
        secret = secretsmanager.get_secret_value(SecretId=os.environ["API_TOKEN_SECRET_ARN"])
        clients.append(Cloudflare(api_token=json.loads(secret["SecretString"])["api_token"]))
    recordings = clients[0].realtime_kit.recordings
    answer = recordings.get_one_recording(
        os.environ["BENCH_RECORDING_ID"], account_id=ACCOUNT_ID, app_id=APP_ID
    )
    recording = answer.data
    assert recording is not None  # noqa: S101
    write(recording.id, recording.status, recording.invoked_time.isoformat())
