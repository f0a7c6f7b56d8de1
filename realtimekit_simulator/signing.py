"""The key that webhooks are signed with."""

import base64
from threading import Lock

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY_PATH = "/.well-known/webhooks.json"
"""Where RealtimeKit publishes its one public key, to anyone (RealtimeKit docs, webhooks)."""


class SigningKey:
    """An RSA-2048 key, made when it is first needed unless given. Safe to use from threads."""

    def __init__(self, private_key: rsa.RSAPrivateKey | None = None) -> None:
        self._lock = Lock()
        self._private_key = private_key

    @property
    def public_pem(self) -> str:
        """The public key as RealtimeKit publishes it: SPKI in PEM, no newline at the end."""
        key = self._current().public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().strip()

    def sign(self, body: bytes) -> str:
        """What `rtk-signature` says of these bytes: base64 of RSASSA-PKCS1-v1_5 with SHA-256."""
        signature = self._current().sign(body, padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()

    def rotate(self, private_key: rsa.RSAPrivateKey | None = None) -> None:
        """Sign and publish with another key from now on; a new one unless given."""
        private_key = private_key or _generated()
        with self._lock:
            self._private_key = private_key

    def _current(self) -> rsa.RSAPrivateKey:
        with self._lock:
            if self._private_key is None:
                self._private_key = _generated()
            return self._private_key


def _generated() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
