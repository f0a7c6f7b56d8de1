"""RealtimeKit's webhooks: their signature, and the request to ingest that they lead to.

A delivery carries `rtk-signature`, the base64 of an RSASSA-PKCS1-v1_5 signature with SHA-256 over
the raw body (RealtimeKit docs, webhooks; Dyte called it `dyte-signature`). The public key is at a
well-known address. The key signs every customer's events, and no time. So a valid signature proves
only that RealtimeKit once sent the body to some customer.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import urllib3
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from recordings.bounded_http import Answer, fetch
from recordings.messages import (
    Hint,
    RecordingRequest,
    Request,
    SessionFilesRequest,
    SessionRequest,
    Source,
    StatusReport,
)
from recordings.model import (
    MalformedRecordingError,
    Recording,
    RecordingStatus,
    session_file,
    session_start,
    text,
    timestamp,
    uuid,
)

SIGNATURE_HEADERS = ("rtk-signature", "dyte-signature")
MEETING_ENDED = "meeting.ended"
RECORDING_STATUS_UPDATE = "recording.statusUpdate"
MEETING_TRANSCRIPT = "meeting.transcript"
MEETING_SUMMARY = "meeting.summary"
MEETING_CHAT_SYNCED = "meeting.chatSynced"

REFRESH_SECONDS = 3600
REFETCH_SECONDS = 60
TIMEOUT = urllib3.Timeout(connect=1, read=2)
MAX_ANSWER_SECONDS = 3
MAX_ANSWER_BYTES = 65_536

# The kinds of session files that an event announces.
_ANNOUNCED = {
    MEETING_TRANSCRIPT: ("transcript", "captions"),
    MEETING_SUMMARY: ("summary",),
    MEETING_CHAT_SYNCED: ("chat",),
}
# RSA of 1,024 to 4,096 bits.
_SIGNATURE_SIZES = (128, 256, 384, 512)
_MAX_KEYS = 3
KEY_URL = re.compile(
    r"https://([0-9a-z-]+\.)*(cloudflare\.com|dyte\.io)(:443)?/[0-9A-Za-z._~/-]*"
    r"|http://(127\.0\.0\.1|localhost)(:[0-9]+)?/[0-9A-Za-z._~/-]*"
)
_PEM_END = "-----END PUBLIC KEY-----"


class SignatureError(Exception):
    """Raised for a missing or malformed signature, or one that RealtimeKit's keys did not make."""


class KeyUnavailableError(Exception):
    """Raised when a signature cannot be verified yet; RealtimeKit must deliver again."""


class MalformedEventError(ValueError):
    """Raised for a body that can never be read; the text says why."""


class PublicKeys:
    """RealtimeKit's public keys, fetched from `url`, or pinned as PEM and never fetched.

    Raises `ValueError` unless the URL is RealtimeKit's, because its keys decide which webhooks are
    believed.
    """

    def __init__(
        self,
        url: str,
        http: urllib3.PoolManager,
        pinned: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not KEY_URL.fullmatch(url):
            raise ValueError("the key's address is not https at cloudflare.com or dyte.io")
        self._url = url
        self._http = http
        self._clock = clock
        self._pinned = load_keys(pinned.replace("\\n", "\n"))
        if pinned and not self._pinned:
            raise ValueError("the pinned key is not the PEM of an RSA public key")
        self._fetched: tuple[RSAPublicKey, ...] = ()
        self._refresh_at = self._refetch_at = float("-inf")

    def verify(self, body: bytes, signature: str | None) -> None:
        """Return if RealtimeKit signed exactly these bytes.

        Raises `SignatureError` for a malformed signature, or one that fails under keys fetched in
        this very call. Raises `KeyUnavailableError` if the keys cannot be fetched, or were fetched
        for another failed signature less than a minute ago. So forgeries cause one fetch a minute,
        and a rotated key costs a retry, not the event.
        """
        decoded = _decode(signature)
        if self._pinned:
            if not _is_signed_by(self._pinned, body, decoded):
                raise SignatureError("the pinned key did not make the signature")
            return
        is_fresh = self.refresh() if self._fetched else self._fetch_first()
        if _is_signed_by(self._fetched, body, decoded):
            return
        if not is_fresh:
            self._refetch()
            if _is_signed_by(self._fetched, body, decoded):
                return
        raise SignatureError("RealtimeKit's published keys did not make the signature")

    def refresh(self) -> bool:
        """Fetch the keys if they are an hour old or unknown; return True if they were fetched.

        Known keys outlive a failed fetch. The first fetch raises `KeyUnavailableError` if it fails,
        and does not delay the next one. Pinned keys are never fetched.
        """
        if self._pinned or self._clock() < self._refresh_at:
            return False
        try:
            self._fetch()
        except KeyUnavailableError:
            if not self._fetched:
                raise
            self._refresh_at = self._clock() + REFETCH_SECONDS
            return False
        return True

    def _fetch_first(self) -> bool:
        """Fetch the first keys; only a failure delays the next fetch."""
        self._refetch()
        self._refetch_at = float("-inf")
        return True

    def _refetch(self) -> None:
        if self._clock() < self._refetch_at:
            raise KeyUnavailableError("the keys' last fetch is less than a minute ago")
        self._refetch_at = self._clock() + REFETCH_SECONDS
        self._fetch()

    def _fetch(self) -> None:
        """Fetch the published keys; keep older ones, which may have signed deliveries under way."""
        try:
            answer = fetch(
                self._http,
                self._url,
                timeout=TIMEOUT,
                max_bytes=MAX_ANSWER_BYTES,
                max_seconds=MAX_ANSWER_SECONDS,
            )
        except urllib3.exceptions.HTTPError as error:
            raise KeyUnavailableError(
                f"no answer from the keys' URL: {type(error).__name__}"
            ) from error
        keys = _published(answer)
        if not keys:
            raise KeyUnavailableError(
                f"the keys' URL answered HTTP {answer.status} without a public key"
            )
        known = {key.public_numbers(): key for key in (*keys, *self._fetched)}
        self._fetched = tuple(known.values())[:_MAX_KEYS]
        self._refresh_at = self._clock() + REFRESH_SECONDS


def load_keys(pem: str) -> tuple[RSAPublicKey, ...]:
    """Return the RSA keys in a text of PEM blocks; skip unreadable blocks and other keys."""
    keys = []
    for block in pem.split(_PEM_END)[:-1]:
        try:
            key = load_pem_public_key(f"{block.strip()}\n{_PEM_END}\n".encode())
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, RSAPublicKey):
            keys.append(key)
    return tuple(keys)


def parse(body: bytes) -> dict[str, Any]:
    """Return the event in a verified body. Raises `MalformedEventError`."""
    try:
        event = json.loads(body.decode())
    except UnicodeDecodeError:
        raise MalformedEventError("the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise MalformedEventError("the body is not JSON") from None
    if not isinstance(event, dict):
        raise MalformedEventError("the body is no JSON object")
    return event


def organization_id(event: Mapping[str, Any]) -> str | None:
    """Return the id of the recording's organisation or of the organiser, None if not given."""
    recording, meeting = _object(event, "recording"), _object(event, "meeting")
    # meeting.chatSynced has no meeting object, but `organizedBy` at the top.
    organizer = _object(meeting, "organizedBy") or _object(event, "organizedBy")
    ids = (recording.get("organizationId"), recording.get("organization_id"), organizer.get("id"))
    return next(filter(None, map(text, ids)), None)


def ingest_request(event: Mapping[str, Any]) -> Request | None:
    """Return the request to ingest that an event leads to.

    Return None if it is about neither a recording nor a file of a session. Raises
    `MalformedEventError` if it is, but has no UUID of the recording, meeting or session.
    """
    name = event.get("event")
    if name == MEETING_ENDED:
        return _session_request(_object(event, "meeting"))
    if name == RECORDING_STATUS_UPDATE:
        return _recording_request(event)
    if isinstance(name, str) and name in _ANNOUNCED:
        return _session_files_request(event, _ANNOUNCED[name])
    return None


def is_invocation(event: Mapping[str, Any]) -> bool:
    """Return True for a report of INVOKED: nothing is recorded yet, and RECORDING comes in seconds.

    A recording that gets no further is found by the next sweep.
    """
    is_update = event.get("event") == RECORDING_STATUS_UPDATE
    return is_update and _object(event, "recording").get("status") == RecordingStatus.INVOKED


def _session_request(meeting: Mapping[str, Any]) -> SessionRequest:
    """Return a request for the session's recordings, or the meeting's if the session's id is bad.

    RealtimeKit would not deliver a refused event again.
    """
    meeting_id = uuid(meeting.get("id"))
    if meeting_id is None:
        raise MalformedEventError("meeting.id is not a UUID")
    session_id = _session_id(meeting)
    # Without the session's id its recordings cannot be told from the meeting's others.
    hint = Hint(session_started_at=_timestamp(session_start(meeting))) if session_id else Hint()
    return SessionRequest(
        meeting_id=meeting_id, session_id=session_id, source=Source.WEBHOOK, hint=hint
    )


def _recording_request(event: Mapping[str, Any]) -> RecordingRequest:
    try:
        recording = Recording.from_webhook(event)
    except MalformedRecordingError:
        raise MalformedEventError("recording.id is not a UUID") from None
    hint = Hint(
        meeting_id=recording.meeting_id,
        session_id=recording.session_id,
        session_started_at=_timestamp(recording.session_started_at),
        title=recording.meeting_title,
        organization_id=recording.organization_id,
    )
    # The report leaves out URLs, which are credentials, and attributes of finished recordings.
    report = {
        "status": recording.status,
        "started_at": _timestamp(recording.started_at),
        "stopped_at": _timestamp(recording.stopped_at),
        "file_name": recording.file_name,
    }
    return RecordingRequest(
        recording_id=recording.recording_id,
        source=Source.WEBHOOK,
        hint=hint,
        report=StatusReport.of(report),
    )


def _session_files_request(event: Mapping[str, Any], kinds: tuple[str, ...]) -> SessionFilesRequest:
    """Return a request for a session's files, which announces those that the event has a URL of.

    `meeting.chatSynced` has no meeting, and older samples of the others name the session at the top
    too (RealtimeKit docs, webhooks). The URL is a credential, so only its expiry is kept.
    """
    session_id = _session_id(_object(event, "meeting")) or _session_id(event)
    if session_id is None:
        raise MalformedEventError("the session's id is not a UUID")
    files = filter(None, (session_file(kind, event) for kind in kinds))
    announced = {file.name: _timestamp(file.url_expires_at) or "" for file in files}
    return SessionFilesRequest(session_id=session_id, source=Source.WEBHOOK, announced=announced)


def _timestamp(time: datetime | None) -> str | None:
    return None if time is None else timestamp(time)


def _session_id(fields: Mapping[str, Any]) -> str | None:
    return uuid(fields.get("sessionId")) or uuid(fields.get("session_id"))


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def _decode(signature: str | None) -> bytes:
    try:
        decoded = base64.b64decode((signature or "").strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("the signature is not base64") from None
    if len(decoded) not in _SIGNATURE_SIZES:
        raise SignatureError("not an RSA signature's size" if decoded else "no signature")
    return decoded


def _is_signed_by(keys: tuple[RSAPublicKey, ...], body: bytes, signature: bytes) -> bool:
    for key in keys:
        try:
            key.verify(signature, body, PKCS1v15(), SHA256())
        except InvalidSignature:
            continue
        return True
    return False


def _published(answer: Answer) -> tuple[RSAPublicKey, ...]:
    """Return the keys in `{"data": {"publicKey": "<PEM>"}}`, or in a list of PEMs there."""
    if answer.status != 200:
        return ()
    try:
        data = json.loads(answer.body)["data"]["publicKey"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ()
    pems = data if isinstance(data, list) else [data]
    return load_keys("\n".join(pem for pem in pems if isinstance(pem, str)))
