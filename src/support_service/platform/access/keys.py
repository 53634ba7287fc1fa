"""Public keys that verify signatures of JWTs, parsed from a JWKS document (RFC 7517) or PEM."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from support_service.platform.access.strict_json import parse_object

MAX_KEYS_IN_SET = 100  # keys of a set that are read; further keys are ignored
MIN_RSA_BITS = 2048  # bits
RSA_KEY_TOO_SMALL = f"it has fewer than {MIN_RSA_BITS} bits"
KEY_TYPES: dict[str, type[Key]] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}  # by prefix of the algorithm
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}
PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)

# Errors for a key that can't be imported. joserfc passes on those of the standard library and of cryptography.
IMPORT_ERRORS = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, ArithmeticError)

log = logging.getLogger(__name__)


class KeySet:
    """An immutable set of public keys."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)
        self.fingerprints = frozenset(json.dumps(key.as_dict(), sort_keys=True) for key in self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """Return the key that may have signed with this key id and algorithm, or None.

        The key with that id is preferred, then the only fitting key that has no id. If `key_id` is None, it must be the
        only key that fits the algorithm.
        """
        fitting = [key for key in self._keys if _fits(key, algorithm)]
        if key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        named = next((key for key in fitting if key.kid == key_id), None)
        without_id = [key for key in fitting if key.kid is None]
        return named or (without_id[0] if len(without_id) == 1 else None)


def parse_key_set(document: bytes) -> KeySet:
    """Parse a JWKS, a single JWK or PEM. Unusable keys are skipped. Raises ValueError for any other document."""
    if document.lstrip().startswith(b"-----BEGIN"):
        return KeySet(
            [key for block in PEM.findall(document)[:MAX_KEYS_IN_SET] if (key := _from_pem(block)) is not None]
        )
    content = parse_object(document)
    listed = content.get("keys", [content] if "kty" in content else None)
    if not isinstance(listed, list):
        raise ValueError("it is not a JWKS: it has no list `keys`")  # noqa: TRY004 - like `parse_object`
    return KeySet([*_from_list(listed[:MAX_KEYS_IN_SET])])


def _from_list(listed: list[Any]) -> Iterator[Key]:
    for number, each in enumerate(listed):
        try:
            reason = _reason_not_to_import(each)
            if not reason:
                key = JWKRegistry.import_key(each)
                reason = _reason_unusable(key)
        except IMPORT_ERRORS as failure:
            reason = type(failure).__name__
        if reason:
            log.warning("Ignoring key %d of the JWKS: %s", number, reason)
        else:
            yield key


def _from_pem(block: bytes) -> Key | None:
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(block)
        except IMPORT_ERRORS:
            continue
        reason = _reason_unusable(key)
        if not reason:
            return key
        log.warning("Ignoring a PEM key: %s", reason)
    return None


def _reason_not_to_import(candidate: Any) -> str:
    """Return why a JWK is not worth importing, or an empty string if it is."""
    if not isinstance(candidate, dict) or candidate.get("kty") not in ("RSA", "EC", "OKP"):
        return "its type is not RSA, EC or OKP"
    if candidate["kty"] == "RSA" and len(str(candidate.get("n"))) * 6 < MIN_RSA_BITS:
        return RSA_KEY_TOO_SMALL
    return ""


def _reason_unusable(key: Key) -> str:
    """Return why a key cannot verify signatures, or an empty string if it can."""
    if key.is_private:
        return "it is a private key; publish the public key only"
    if isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS:
        return RSA_KEY_TOO_SMALL
    if key.get("use", "sig") != "sig" or "verify" not in (key.get("key_ops") or ("verify",)):
        return "it is not for signatures"
    return ""


def _fits(key: Key, algorithm: str) -> bool:
    """Return True if the key suits the algorithm and is not restricted to another one."""
    return (
        isinstance(key, KEY_TYPES[algorithm[:2]])
        and getattr(key, "curve_name", None) == CURVES.get(algorithm)
        and key.alg in (None, algorithm)
    )
