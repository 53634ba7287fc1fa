"""Detection of a file's content type from its first bytes, by puremagic's table of signatures.

The patterns in OWN_SIGNATURES are checked before that table. They match types that are dangerous under another name
(executables, SVG, HTML), because the table has no type for some of them, and a filename can hide them. They also match
still images in the MPEG-4 container (HEIC, AVIF), because the table reports some of these as videos.
"""

import re
from collections import defaultdict
from functools import cache

import puremagic

from support_service.attachments.model import clean_content_type

HEAD_BYTES = 2048  # bytes that are examined
# Minimum length of a signature in bytes: MIN_TEXT_SIGNATURE for text, MIN_BINARY_SIGNATURE for data with a NUL byte.
# Shorter signatures also match words of plain text, or the first letter of any text.
MIN_TEXT_SIGNATURE, MIN_BINARY_SIGNATURE = 4, 2

# Allowed before the first element of markup: a byte order mark, spaces, comments and processing instructions.
_PROLOG = rb"(?:\xef\xbb\xbf)?(?>\s+|<!--.*?-->|<\?.*?\?>)*+"
OWN_SIGNATURES = (
    (re.compile(rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1)", re.DOTALL), "image/heic"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "image/avif"),
    (re.compile(rb"MZ.*\0", re.DOTALL), "application/vnd.microsoft.portable-executable"),
    (re.compile(rb"\x7fELF"), "application/x-executable"),
    (re.compile(rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe"), "application/x-mach-binary"),
    (
        re.compile(_PROLOG + rb"(?:<!DOCTYPE\s+svg\b[^\[>]*(?:\[[^\]]*\]\s*)?>\s*)?<(?:svg:)?svg[\s/>]", re.DOTALL),
        "image/svg+xml",
    ),
    (re.compile(_PROLOG + rb"<(?:!doctype\s+)?html[\s/>]", re.DOTALL | re.IGNORECASE), "text/html"),
    (re.compile(rb"\s*<(?:head|body|script|style|iframe|div|img|meta|h1)[\s/>]", re.IGNORECASE), "text/html"),
)
ZIP = re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)")
SCRIPT = re.compile(rb"#!\s*/")


def detect(head: bytes, filename: str) -> str | None:
    """Return the content type that the first bytes indicate; None if they have no signature, as in plain text.

    The filename decides between types with the same signature, such as the formats of one office suite.
    """
    certain = next((kind for pattern, kind in OWN_SIGNATURES if pattern.match(head)), None)
    if certain is not None:
        return certain
    found = _detect_by_table(head, filename)
    if ZIP.match(head):
        if found == "application/java-archive" and not filename.lower().endswith(".jar"):
            return "application/zip"  # many archivers write ZIP files that start like Java archives
        return found if found and found.startswith("application/") else "application/zip"
    return found or ("text/x-shellscript" if SCRIPT.match(head) else None)


def _detect_by_table(head: bytes, filename: str) -> str | None:
    least = MIN_BINARY_SIGNATURE if b"\0" in head else MIN_TEXT_SIGNATURE
    if not any(
        len(signature) >= least and head.startswith(signature, offset)
        for offset, by_start in _signatures()
        for signature in by_start.get(head[offset : offset + MIN_BINARY_SIGNATURE], ())
    ):
        return None  # this check takes 4 us; puremagic's own search takes 220 us
    try:
        found = puremagic.from_string(head, mime=True, filename=filename)
    except (puremagic.PureError, ValueError):
        return None
    return clean_content_type(found) if found else None


@cache
def _signatures() -> list[tuple[int, dict[bytes, list[bytes]]]]:
    """Return puremagic's signatures by their offset in bytes, and there by their first MIN_BINARY_SIGNATURE bytes."""
    found: defaultdict[int, defaultdict[bytes, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for entry in puremagic.magic_header_array:
        if entry.offset + len(entry.byte_match) <= HEAD_BYTES:  # others are not in the bytes that are examined
            found[entry.offset][entry.byte_match[:MIN_BINARY_SIGNATURE]].append(entry.byte_match)
    return [(offset, dict(by_start)) for offset, by_start in found.items()]
