"""The public keys of the issuer of JWTs: read from a file or a server, parsed from a JWKS (RFC 7517) or PEM, cached.

An issuer that is down, slow or returns an invalid document changes nothing: the cached keys stay, whatever their age.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from support_service.core.errors import problem
from support_service.core.json_input import exceeds_depth
from support_service.platform.access.timings import JwksTimings
from support_service.platform.background import Runner
from support_service.platform.http_client import describe_client_error, limited_session
from support_service.platform.telemetry.logs import outage_logger

MAX_JWKS_BYTES = 1024 * 1024
HTTP_TIMEOUT = 5.0  # seconds for the whole response
MAX_KEYS_IN_SET = 100  # keys of a set that are read; further keys are ignored
MIN_RSA_BITS = 2048  # bits
RSA_KEY_TOO_SMALL = f"it has fewer than {MIN_RSA_BITS} bits"
KEY_TYPES: dict[str, type[Key]] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}  # by prefix of the algorithm
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}
PEM_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)

# Errors for a key that can't be imported. joserfc passes on errors of the standard library and of cryptography.
KEY_IMPORT_ERRORS = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, ArithmeticError)

log = logging.getLogger(__name__)


class KeySourceError(Exception):
    """The document with the keys cannot be read. The message gives the reason.

    If the issuer has refused the request, `refusal` is the code in its answer, or empty (RFC 6749).
    """

    def __init__(self, reason: str, refusal: str | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


ReadKeys = Callable[[], Awaitable[bytes]]
"""A function that returns the current document with the keys, or raises KeySourceError."""


@asynccontextmanager
async def open_key_source(
    location: str, seconds: float = HTTP_TIMEOUT, trace_configs: Sequence[aiohttp.TraceConfig] = ()
) -> AsyncIterator[ReadKeys]:
    """Open what reads the keys at an HTTP URL, within `seconds`, or at a file path; `trace_configs` are for HTTP."""
    if not re.match(r"https?://", location):
        yield partial(_read_key_file, Path(location))
        return
    async with limited_session(trace_configs, timeout=aiohttp.ClientTimeout(total=seconds)) as session:
        yield partial(read_url, session, location)


async def _read_key_file(path: Path) -> bytes:
    try:
        return await asyncio.to_thread(path.read_bytes)
    except OSError as failure:
        raise KeySourceError(f"{path}: {failure.strerror}") from failure


async def read_url(
    session: aiohttp.ClientSession,
    url: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] = {},
    *,
    seconds: float | None = None,
) -> bytes:
    """Return the response body, of at most MAX_JWKS_BYTES, of a GET or, with a form, of a POST, within `seconds`.

    Redirects are not followed, because only the given URL is trusted.
    """
    accepted = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    method = "GET" if form is None else "POST"
    timeout = session.timeout if seconds is None else aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.request(
            method, url, data=form, allow_redirects=False, headers={**accepted, **headers}, timeout=timeout
        ) as response:
            is_refusal = response.status in (400, 401, 403)
            if response.status != 200 and not is_refusal:  # noqa: PLR2004 - HTTP's OK
                raise KeySourceError(f"the response has status {response.status}")
            body = bytearray()
            async for block in response.content.iter_any():
                body += block
                if len(body) > MAX_JWKS_BYTES:
                    response.close()
                    raise KeySourceError(f"the response has more than {MAX_JWKS_BYTES} bytes")
            if is_refusal:
                error = _oauth_error(bytes(body))
                named = f" and the error {error!r}" if error else ""
                raise KeySourceError(f"the response has status {response.status}{named}", error)
            return bytes(body)
    except TimeoutError as failure:
        raise KeySourceError(f"no response within {timeout.total:g} s") from failure
    except (aiohttp.ClientError, OSError) as failure:
        raise KeySourceError(describe_client_error(failure)) from failure


def _oauth_error(body: bytes) -> str:
    try:
        return str(parse_strict_json_object(body).get("error", ""))[:64]
    except ValueError:
        return ""


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
        fitting = [key for key in self._keys if _is_for_algorithm(key, algorithm)]
        if key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        named = next((key for key in fitting if key.kid == key_id), None)
        without_id = [key for key in fitting if key.kid is None]
        return named or (without_id[0] if len(without_id) == 1 else None)


def parse_key_set(document: bytes) -> KeySet:
    """Parse a JWKS, a single JWK or PEM. Unusable keys are skipped. Raises ValueError for any other document."""
    if document.lstrip().startswith(b"-----BEGIN"):
        return KeySet(
            [
                key
                for block in PEM_BLOCK.findall(document)[:MAX_KEYS_IN_SET]
                if (key := _key_of_pem_block(block)) is not None
            ]
        )
    content = parse_strict_json_object(document)
    listed = content.get("keys", [content] if "kty" in content else None)
    if not isinstance(listed, list):
        raise ValueError("it is not a JWKS: it has no list `keys`")  # noqa: TRY004 - like `parse_strict_json_object`
    return KeySet([*_keys_of_jwks(listed[:MAX_KEYS_IN_SET])])


def _keys_of_jwks(listed: list[Any]) -> Iterator[Key]:
    for number, each in enumerate(listed):
        try:
            reason = _reason_not_to_import(each)
            if not reason:
                key = JWKRegistry.import_key(each)
                reason = _reason_unusable(key)
        except KEY_IMPORT_ERRORS as failure:
            reason = type(failure).__name__
        if reason:
            log.warning("Ignoring key %d of the JWKS: %s", number, reason)
        else:
            yield key


def _key_of_pem_block(block: bytes) -> Key | None:
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(block)
        except KEY_IMPORT_ERRORS:
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


def _is_for_algorithm(key: Key, algorithm: str) -> bool:
    """Return True if the key suits the algorithm and is not restricted to another one."""
    return (
        isinstance(key, KEY_TYPES[algorithm[:2]])
        and getattr(key, "curve_name", None) == CURVES.get(algorithm)
        and key.alg in (None, algorithm)
    )


def parse_strict_json_object(document: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly: a document that two parsers could interpret differently is refused.

    Raises ValueError for other values, duplicate names, NaN, Infinity and excessive nesting.
    """
    try:
        parsed = json.loads(document.decode(), object_pairs_hook=_dict_of_unique_names, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if exceeds_depth(document, parsed):  # Python versions differ in the depth at which they fail
        raise ValueError("it is nested too deep")
    if not isinstance(parsed, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - for callers, one more kind of invalid document
    return parsed


def _dict_of_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("a name is repeated")
    return parsed


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("it contains NaN or Infinity")


class JwksCache:
    """A cache of public keys, which calls `changed` whenever the keys differ from those before."""

    def __init__(
        self,
        read: ReadKeys,
        changed: Callable[[], Any],
        *,
        required: bool,
        clock: Callable[[], float] = time.monotonic,
        timings: JwksTimings = JwksTimings(),
        variable: str = "SUPPORT_JWT_KEYS",
    ) -> None:
        """`variable` is the setting that names the source of the keys, for the log."""
        self._variable = variable
        self._read_document = read
        self._changed = changed
        self._required = required
        self._clock = clock
        self._timings = timings
        self._keys: KeySet | None = None
        self._read_at = clock()  # when the keys were last read
        self._next_unknown_key_refresh = clock()  # when an unknown key may next cause a refresh
        self._refreshing: asyncio.Task[None] | None = None
        self._last_error = ""

    @property
    def age(self) -> float:
        """Seconds since the keys were last read, or since the start if they never were."""
        return self._clock() - self._read_at

    @property
    def fault_code(self) -> str | None:
        """The problem code of the last attempt to read the keys, or None if it succeeded."""
        return "keys_unavailable" if self._last_error else None

    async def start(self, runner: Runner) -> None:
        """Read the keys, and refresh them from now on. Raises Unavailable if keys are required and cannot be loaded."""
        await self.refresh()
        if self._required and not self._keys:
            reason = self._last_error or "it contains no usable key"
            raise problem("keys_unavailable", f"{self._variable} can't be loaded: {reason}")
        runner.run(self._refresh_periodically())
        runner.push_async_callback(self._end_refresh)

    async def find(self, key_id: str | None, algorithm: str) -> Key | None:
        """Return the key that may have signed with this key id and algorithm, or None.

        An unknown key causes a refresh, at most once per `unknown_key_interval`. Raises Unavailable if no keys were
        ever read.
        """
        found = self._keys.find(key_id, algorithm) if self._keys is not None else None
        if found is None and (self._refreshing is not None or self._clock() >= self._next_unknown_key_refresh):
            if self._refreshing is None:
                self._next_unknown_key_refresh = self._clock() + self._timings.unknown_key_interval
            await self.refresh()
            found = self._keys.find(key_id, algorithm) if self._keys is not None else None
        if self._keys is None:
            raise problem(
                "keys_unavailable", "The keys that verify tokens can't be loaded at present; try again later."
            )
        return found

    async def refresh(self) -> None:
        """Read the keys again. Concurrent callers share one read; a failure is logged."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._read())
            self._refreshing.add_done_callback(self._clear_refreshing)
        await asyncio.wait({self._refreshing})

    def _clear_refreshing(self, _: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _read(self) -> None:
        try:
            document = await self._read_document()
            keys = await asyncio.to_thread(parse_key_set, document)
        except (KeySourceError, ValueError) as failure:
            reason = str(failure) if isinstance(failure, KeySourceError) else f"it can't be parsed: {failure}"
            outage_logger("keys_unavailable").error("%s can't be loaded: %s", self._variable, reason)
            self._last_error = reason
            return
        self._last_error = ""
        self._read_at = self._clock()
        if self._keys is None or self._keys.fingerprints != keys.fingerprints:
            self._keys = keys
            self._changed()
            log.log(logging.INFO if keys else logging.ERROR, "%s has %d usable keys", self._variable, len(keys))

    async def _end_refresh(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    async def _refresh_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._timings.retry_interval if self._last_error else self._timings.refresh_interval)
            await self.refresh()
