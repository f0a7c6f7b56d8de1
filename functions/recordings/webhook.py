"""RealtimeKit's webhooks: is it from RealtimeKit, and what does it ask to ingest?

A delivery carries `rtk-signature`, the base64 of an RSASSA-PKCS1-v1_5 signature with SHA-256 over
the raw body (RealtimeKit docs, webhooks; Dyte called it `dyte-signature`). The public key is at a
well-known address; the same key signs every customer's events, and no time is signed: a valid
signature says that RealtimeKit once sent this to somebody, no more.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from recordings.bounded_http import Answer, fetch
from recordings.messages import Hint, RecordingRequest, Request, SessionRequest, Source
from recordings.model import MalformedRecordingError, Recording, text, uuid

SIGNATURE_HEADERS = ("rtk-signature", "dyte-signature")
MEETING_ENDED = "meeting.ended"
RECORDING_STATUS_UPDATE = "recording.statusUpdate"

REFRESH_SECONDS = 3600
REFETCH_SECONDS = 60
TIMEOUT = urllib3.Timeout(connect=1, read=2)
MAX_ANSWER_SECONDS = 3
MAX_ANSWER_BYTES = 65_536

# RSA of 1,024 to 4,096 bits.
_SIGNATURE_SIZES = (128, 256, 384, 512)
_MAX_KEYS = 3
KEY_URL = re.compile(
    r"https://([0-9a-z-]+\.)*(cloudflare\.com|dyte\.io)(:443)?/[0-9A-Za-z._~/-]*"
    r"|http://(127\.0\.0\.1|localhost)(:[0-9]+)?/[0-9A-Za-z._~/-]*"
)
_PEM_END = "-----END PUBLIC KEY-----"


class SignatureError(Exception):
    """Raised for a signature that is none, or that no current key of RealtimeKit's made."""


class KeyUnavailableError(Exception):
    """Raised when it cannot be told whether a signature is right; RealtimeKit is to try again."""


class MalformedEventError(ValueError):
    """Raised for a body that can never be read; says what is wrong with it."""


class PublicKeys:
    """RealtimeKit's public keys: fetched from `url`, or pinned as PEM and then never fetched.

    Raises `ValueError` for an address that is not RealtimeKit's: who answers there decides what is
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
            raise ValueError("the key's address is not https on a host of RealtimeKit's")
        self._url = url
        self._http = http
        self._clock = clock
        self._pinned = load_keys(pinned.replace("\\n", "\n"))
        if pinned and not self._pinned:
            raise ValueError("the pinned key is no PEM of an RSA public key")
        self._fetched: tuple[RSAPublicKey, ...] = ()
        self._refresh_at = self._refetch_at = float("-inf")

    def verify(self, body: bytes, signature: str | None) -> None:
        """Return if RealtimeKit signed exactly these bytes.

        Raises `SignatureError` only for what is no signature, or fails under keys fetched for this
        very call; `KeyUnavailableError` where they cannot be fetched, or were a moment ago for
        another signature that failed, or could not be: so forgeries cannot make us hammer
        RealtimeKit, and a key that was rotated in between costs a retry, not the event.
        """
        decoded = _decode(signature)
        if self._pinned:
            if not _is_signed_by(self._pinned, body, decoded):
                raise SignatureError("the signature is not of the pinned key")
            return
        is_fresh = self.refresh() if self._fetched else self._fetch_first()
        if _is_signed_by(self._fetched, body, decoded):
            return
        if not is_fresh:
            self._refetch()
            if _is_signed_by(self._fetched, body, decoded):
                return
        raise SignatureError("the signature is of no key that RealtimeKit publishes")

    def refresh(self) -> bool:
        """Fetch once an hour, and say if this was now; known keys outlive a failed fetch.

        Raises `KeyUnavailableError` where there are none; a start that met that keeps no delivery
        from trying again. Keys that are pinned are not fetched.
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
        """Fetch where no key is known: only a fetch that failed keeps the next one waiting."""
        self._refetch()
        self._refetch_at = float("-inf")
        return True

    def _refetch(self) -> None:
        if self._clock() < self._refetch_at:
            raise KeyUnavailableError("the keys were fetched, or not, less than a minute ago")
        self._refetch_at = self._clock() + REFETCH_SECONDS
        self._fetch()

    def _fetch(self) -> None:
        """What is published now, and what was before: a delivery may be under way."""
        try:
            answer = fetch(
                self._http,
                self._url,
                timeout=TIMEOUT,
                most_bytes=MAX_ANSWER_BYTES,
                most_seconds=MAX_ANSWER_SECONDS,
            )
        except urllib3.exceptions.HTTPError as error:
            raise KeyUnavailableError(f"no answer: {type(error).__name__}") from error
        keys = _published(answer)
        if not keys:
            raise KeyUnavailableError(f"HTTP {answer.status} without a public key")
        known = {key.public_numbers(): key for key in (*keys, *self._fetched)}
        self._fetched = tuple(known.values())[:_MAX_KEYS]
        self._refresh_at = self._clock() + REFRESH_SECONDS


def load_keys(pem: str) -> tuple[RSAPublicKey, ...]:
    """The RSA keys in a text of PEM blocks; what is none is left out."""
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
    """The event in a verified body. Raises `MalformedEventError`."""
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
    """Whose event it is, if it says so: the recording's organisation's or the organiser's id."""
    recording, meeting = _object(event, "recording"), _object(event, "meeting")
    # chatSynced has no meeting object, and says it at the top.
    organizer = _object(meeting, "organizedBy") or _object(event, "organizedBy")
    said = (recording.get("organizationId"), recording.get("organization_id"), organizer.get("id"))
    return next(filter(None, map(text, said)), None)


def ingest_request(event: Mapping[str, Any]) -> Request | None:
    """What the event asks to ingest; `None` for one that is not about recordings.

    Raises `MalformedEventError` for one that is, and does not say which by a UUID.
    """
    name = event.get("event")
    if name == MEETING_ENDED:
        return _session_request(_object(event, "meeting"))
    if name == RECORDING_STATUS_UPDATE:
        return _recording_request(event)
    return None


def _session_request(meeting: Mapping[str, Any]) -> SessionRequest:
    """Ask for the session's recordings; for the meeting's where the session's id makes no sense.

    A refusal would lose the event for ever.
    """
    meeting_id = uuid(meeting.get("id"))
    if meeting_id is None:
        raise MalformedEventError("meeting.id is not a UUID")
    session_id = uuid(meeting.get("sessionId")) or uuid(meeting.get("session_id"))
    return SessionRequest(meeting_id=meeting_id, session_id=session_id, source=Source.WEBHOOK)


def _recording_request(event: Mapping[str, Any]) -> RecordingRequest:
    try:
        recording = Recording.from_webhook(event)
    except MalformedRecordingError:
        raise MalformedEventError("recording.id is not a UUID") from None
    hint = Hint(
        meeting_id=recording.meeting_id,
        session_id=recording.session_id,
        title=recording.meeting_title,
        organization_id=recording.organization_id,
    )
    return RecordingRequest(recording_id=recording.recording_id, source=Source.WEBHOOK, hint=hint)


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def _decode(signature: str | None) -> bytes:
    try:
        decoded = base64.b64decode((signature or "").strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("the signature is not base64") from None
    if len(decoded) not in _SIGNATURE_SIZES:
        raise SignatureError("the signature has the size of none" if decoded else "no signature")
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
    """From `{"success": true, "data": {"publicKey": "<PEM>"}}`; of several PEMs, all."""
    if answer.status != 200:
        return ()
    try:
        data = json.loads(answer.body)["data"]["publicKey"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ()
    pems = data if isinstance(data, list) else [data]
    return load_keys("\n".join(pem for pem in pems if isinstance(pem, str)))
