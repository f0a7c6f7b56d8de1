"""Checks of the storage: the archive's bucket, the tables, and the functions' logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from ..stack import TIMEOUTS
from .attempt import attempt
from .deployment import Deployment
from .finding import Finding, ok, wrong
from .headings import UNDO, UNDO_CHANGE

INDEXES: Mapping[str, tuple[str, ...]] = {
    "RecordingsTable": ("by_label", "by_meeting", "by_session", "by_time"),
    "WorkTable": ("due",),
}
"""The indexes of each table."""

TTL_ATTRIBUTE = "expires_at"
# RealtimeKit deletes files after 7 days, and until then a copy can be resumed.
MIN_ABORT_DAYS = 7

BUCKET = "A bucket of your own"
RESTORE = "Restore the table"
LOGS = "Dashboard, metrics and logs"


def check_storage(deployment: Deployment) -> Iterator[Finding]:
    """Yield the state of the bucket, the tables and the log groups."""
    if deployment.is_archiving:
        yield from _check_bucket(deployment)
    for table in INDEXES:
        yield from attempt(table, _table, deployment, table)
        yield from attempt(f"backups of {table}", _backups, deployment, table)
    yield from attempt("time to live", _time_to_live, deployment)
    yield from attempt("log retention", _retention, deployment)


def _check_bucket(deployment: Deployment) -> Iterator[Finding]:
    for check, look in {
        "bucket's region": _region,
        "bucket's versioning": _versioning,
        "bucket's encryption": _encryption,
        "bucket's privacy": _privacy,
        "bucket's policy": _bucket_policy,
        "bucket without TLS": _plain_http,
        "bucket's lifecycle": _lifecycle,
        "bucket's object lock": _object_lock,
    }.items():
        yield from attempt(check, look, deployment, deployment.stack.output("ArchiveBucketName"))


def _is_created(deployment: Deployment) -> bool:
    """Return True if the stack made the bucket, so that its settings are the template's."""
    return not deployment.stack.parameter("ArchiveBucketName")


def _advice(deployment: Deployment) -> str:
    return UNDO_CHANGE if _is_created(deployment) else "Change the settings of your bucket."


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _region(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    try:
        answer = deployment.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        if _code(error) not in ("404", "NoSuchBucket"):
            raise
        yield wrong(
            check,
            f"There is no bucket {bucket}.",
            action="Name an existing bucket in ArchiveBucketName, and deploy.",
            heading=BUCKET,
        )
        return
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    region = answer.get("BucketRegion") or headers["x-amz-bucket-region"]
    if region != deployment.stack.session.region_name:
        yield wrong(
            check,
            f"The bucket is in {region}, so links to its files do not work.",
            action="Deploy with a bucket of the stack's region, and copy the files.",
            heading=BUCKET,
        )
    else:
        yield ok(check, f"{region}, as the stack's")


def _versioning(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    status = deployment.client("s3").get_bucket_versioning(Bucket=bucket).get("Status", "never on")
    if status == "Enabled":
        yield ok(check, "enabled")
    else:
        yield wrong(
            check,
            f"Versioning is {status.lower()}, so a file that is deleted by mistake is lost.",
            action=_advice(deployment),
            heading=BUCKET,
        )


def _encryption(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    # S3 encrypts each bucket since 2023, if only with its own key.
    answer = deployment.client("s3").get_bucket_encryption(Bucket=bucket)
    [rule, *_] = answer["ServerSideEncryptionConfiguration"]["Rules"]
    yield ok(check, rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"])


def _privacy(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    s3 = deployment.client("s3")
    try:
        found = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if _code(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
        found = {}
    settings = (
        "BlockPublicAcls",
        "BlockPublicPolicy",
        "IgnorePublicAcls",
        "RestrictPublicBuckets",
    )
    if missing := [name for name in settings if not found.get(name)]:
        yield wrong(
            check,
            f"The bucket's public access block lacks {', '.join(missing)}.",
            action=_advice(deployment),
            heading=BUCKET,
        )
    else:
        yield ok(check, "all public access is blocked")


def _bucket_policy(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    try:
        policy = json.loads(deployment.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    except ClientError as error:
        if _code(error) != "NoSuchBucketPolicy":
            raise
        policy = {}
    if any(_denies_plain_http(statement) for statement in policy.get("Statement", ())):
        yield ok(check, "denies requests without TLS")
    elif _is_created(deployment):
        yield wrong(
            check,
            "The bucket's policy does not deny requests without TLS.",
            action=UNDO_CHANGE,
            heading=UNDO,
        )
    else:
        yield ok(check, "your bucket allows requests without TLS, which the functions do not send")


def _denies_plain_http(statement: Mapping[str, Any]) -> bool:
    condition = statement.get("Condition", {}).get("Bool", {})
    is_for_all = statement.get("Principal") in ("*", {"AWS": "*"})
    plain = str(condition.get("aws:SecureTransport", "")).lower() == "false"
    return statement["Effect"] == "Deny" and is_for_all and plain


def _plain_http(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    """Send one signed request without TLS, which shows the bucket's name and no secret."""
    session: Any = deployment.stack.session
    s3 = session.client("s3", use_ssl=False, config=TIMEOUTS)
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if _code(error) != "403":
            raise
        # The same request with TLS is allowed, or else the region's check says why not.
        deployment.client("s3").head_bucket(Bucket=bucket)
        yield ok(check, "a request is refused")
        return
    finally:
        s3.close()
    if _is_created(deployment):
        yield wrong(
            check,
            "S3 answers a request without TLS, which the bucket's policy should deny.",
            action=UNDO_CHANGE,
            heading=UNDO,
        )
    else:
        yield ok(check, "your bucket answers a request without TLS; the functions send none")


def _lifecycle(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    try:
        answer = deployment.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)
    except ClientError as error:
        if _code(error) != "NoSuchLifecycleConfiguration":
            raise
        answer = {}
    days = [
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        for rule in answer.get("Rules", ())
        if rule["Status"] == "Enabled" and "AbortIncompleteMultipartUpload" in rule
    ]
    if not days:
        trouble = "No rule aborts incomplete uploads, so you pay for parts that a crash leaves."
    elif min(days) < MIN_ABORT_DAYS:
        trouble = (
            f"Uploads are aborted after {min(days)} days, before RealtimeKit deletes the file."
        )
    else:
        yield ok(check, f"aborts incomplete uploads after {min(days)} days")
        return
    yield wrong(check, trouble, action=_advice(deployment), heading=BUCKET)


def _object_lock(check: str, deployment: Deployment, bucket: str) -> Iterator[Finding]:
    try:
        answer = deployment.client("s3").get_object_lock_configuration(Bucket=bucket)
    except ClientError as error:
        if _code(error) != "ObjectLockConfigurationNotFoundError":
            raise
        yield ok(check, "off")
        return
    found = answer["ObjectLockConfiguration"].get("Rule", {}).get("DefaultRetention", {})
    years, days = found.get("Years"), found.get("Days")
    kept = f"{years} years" if years else f"{days} days"
    lasting = f"{found['Mode']}, {kept}: until then erasures fail" if found else "no retention"
    yield ok(check, f"on, {lasting}")


def _table(check: str, deployment: Deployment, table: str) -> Iterator[Finding]:
    found = deployment.client("dynamodb").describe_table(TableName=deployment.resource(table))
    description = found["Table"]
    indexes = {
        index["IndexName"]: index.get("IndexStatus", "ACTIVE")
        for index in description.get("GlobalSecondaryIndexes", ())
    }
    states = {table: description["TableStatus"]} | {
        name: indexes.get(name, "missing") for name in INDEXES[table]
    }
    unready = [f"{name} is {state}" for name, state in states.items() if state != "ACTIVE"]
    if unready:
        trouble = f"Not ready: {', '.join(unready)}."
    elif table == "RecordingsTable" and not description.get("DeletionProtectionEnabled"):
        trouble = "Deletion protection is off."
    elif table == "RecordingsTable" and not description.get("StreamSpecification"):
        trouble = "The table has no stream, so changes are not published and files not archived."
    else:
        protection = ", protected" if description.get("DeletionProtectionEnabled") else ""
        yield ok(check, f"active, with {', '.join(INDEXES[table])}{protection}")
        return
    yield wrong(check, trouble, action=UNDO_CHANGE, heading=RESTORE)


def _backups(check: str, deployment: Deployment, table: str) -> Iterator[Finding]:
    answer = deployment.client("dynamodb").describe_continuous_backups(
        TableName=deployment.resource(table)
    )
    found = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if found.get("PointInTimeRecoveryStatus") == "ENABLED":
        yield ok(check, "point-in-time recovery is on")
    else:
        yield wrong(
            check,
            "Point-in-time recovery is off, so the table cannot be restored.",
            action=UNDO_CHANGE,
            heading=RESTORE,
        )


def _time_to_live(check: str, deployment: Deployment) -> Iterator[Finding]:
    answer = deployment.client("dynamodb").describe_time_to_live(
        TableName=deployment.resource("WorkTable")
    )
    found = answer["TimeToLiveDescription"]
    if found["TimeToLiveStatus"] in ("DISABLED", "DISABLING"):
        trouble = "The work table's time to live is off, so settled rows stay for ever."
    elif found["AttributeName"] != TTL_ATTRIBUTE:
        trouble = f"The work table's time to live is {found['AttributeName']}, not {TTL_ATTRIBUTE}."
    else:
        yield ok(check, f"WorkTable by {TTL_ATTRIBUTE}")
        return
    yield wrong(check, trouble, action=UNDO_CHANGE, heading=UNDO)


def _retention(check: str, deployment: Deployment) -> Iterator[Finding]:
    wanted = int(deployment.stack.parameter("LogRetentionDays"))
    groups = deployment.named_outputs("LogGroupName").values()
    kept = {group: _kept_days(deployment, group) for group in groups}
    if differing := [f"{group} ({days})" for group, days in kept.items() if days != wanted]:
        yield wrong(
            check,
            f"Logs should be kept for {wanted} days, but are not: {', '.join(differing)}.",
            action=UNDO_CHANGE,
            heading=LOGS,
        )
    else:
        yield ok(check, f"{wanted} days for {len(kept)} log groups")


def _kept_days(deployment: Deployment, group: str) -> int | str:
    pages = deployment.client("logs").get_paginator("describe_log_groups")
    found: Iterable[Any] = pages.paginate(logGroupNamePrefix=group).search("logGroups[]")
    for one in found:
        if one["logGroupName"] == group:
            days: int | str = one.get("retentionInDays", "for ever")
            return days
    return "deleted"
