"""Matching of content types against an allow list, with aliases and types that share a signature. No I/O."""

# Names of one type. The first is the registered name, if there is one; clients and puremagic's table use the others.
ALIASES = (
    ("application/gzip", "application/x-gzip"),
    ("application/rtf", "text/rtf"),
    ("application/vnd.ms-excel", "application/excel"),
    ("application/vnd.ms-powerpoint", "application/mspowerpoint"),
    ("application/vnd.rar", "application/x-rar-compressed", "application/x-rar"),
    ("application/xml", "text/xml"),
    ("application/zip", "application/x-zip-compressed"),
    ("audio/aac", "audio/x-aac"),
    ("audio/flac", "audio/x-flac"),
    ("audio/mp4", "audio/m4a", "audio/x-m4a"),
    ("audio/mpeg", "audio/mp3"),
    ("audio/vnd.wave", "audio/wav", "audio/wave", "audio/x-wav"),
    ("image/bmp", "image/x-bmp", "image/x-ms-bmp"),
    ("image/heic", "image/heif"),
    ("image/jpeg", "image/jpg", "image/pjpeg"),
    ("image/vnd.microsoft.icon", "image/x-icon"),
    ("text/javascript", "application/javascript"),
    ("video/matroska", "video/x-matroska"),
    ("video/mp4", "video/x-m4v"),
    ("video/x-msvideo", "video/avi", "video/msvideo"),
)
# Types that share a container format. The first bytes can't distinguish them, so the declared type is trusted.
SHARED_CONTAINERS = (
    ("application/msword", "application/vnd.ms-excel", "application/vnd.ms-outlook", "application/vnd.ms-powerpoint"),
    (
        "application/epub+zip",
        "application/vnd.android.package-archive",
        "application/vnd.oasis.opendocument.presentation",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/zip",
    ),
    ("application/ogg", "audio/ogg", "audio/opus", "video/ogg"),
    ("application/xhtml+xml", "text/html"),
    ("audio/3gpp", "audio/mp4", "video/3gpp", "video/mp4", "video/quicktime"),
    ("audio/webm", "video/matroska", "video/webm"),
    ("image/avif", "image/heic"),
)


def type_allowed(types: tuple[str, ...], content_type: str) -> bool:
    """Return whether a list of types, which may contain patterns such as `image/*`, has this type under any name."""
    return any(name in types or f"{_top_level_type(name)}/*" in types for name in _aliases(content_type))


def detected_type_allowed(types: tuple[str, ...], declared: str, detected: str) -> bool:
    """Return whether a list of types accepts a file whose detected type may differ from its declared type.

    The declared type must already be in the list.
    """
    if type_allowed(types, detected) or any(
        _aliases(declared)[0] in each and _aliases(detected)[0] in each for each in SHARED_CONTAINERS
    ):
        return True
    # Plain text may start like a patch, an email or a script and is still text.
    return _top_level_type(declared) == "text" and any(
        _top_level_type(name) in ("text", "message") for name in _aliases(detected)
    )


def _aliases(content_type: str) -> tuple[str, ...]:
    return next((names for names in ALIASES if content_type in names), (content_type,))


def _top_level_type(content_type: str) -> str:
    return content_type.partition("/")[0]
