"""The least work of `ingest_recording`, with boto3: read the token, GET, write the row."""

import json
import os
from typing import Any

import boto3
import urllib3

URL = f"{os.environ['REALTIMEKIT_APP_URL']}/recordings/{os.environ['BENCH_RECORDING_ID']}"
secretsmanager = boto3.client("secretsmanager")
dynamodb = boto3.client("dynamodb")
http = urllib3.PoolManager()
tokens: list[str] = []


def handler(event: Any, context: Any) -> None:
    """Fetch the bench's recording and write its row, for any event."""
    if not tokens:
        secret = secretsmanager.get_secret_value(SecretId=os.environ["API_TOKEN_SECRET_ARN"])
        tokens.append(json.loads(secret["SecretString"])["api_token"])
    answer = http.request("GET", URL, headers={"Authorization": f"Bearer {tokens[0]}"})
    recording = json.loads(answer.data)["data"]
    write(recording["id"], recording["status"], recording["invoked_time"])


def write(recording_id: str, status: str, invoked_at: str) -> None:
    """Write a recording's row unless the row already has this status."""
    dynamodb.update_item(
        TableName=os.environ["RECORDINGS_TABLE"],
        Key={"recording_id": {"S": recording_id}},
        UpdateExpression="SET #status = :status, invoked_at = :invoked_at",
        ConditionExpression="attribute_not_exists(recording_id) OR #status <> :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}, ":invoked_at": {"S": invoked_at}},
        ReturnValues="ALL_NEW",
    )
