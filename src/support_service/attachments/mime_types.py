"""Which names of content types mean the same, and which types begin alike: what a list of types takes. Pure."""

# Names of one type. The first is the registered one, where there is one; clients and puremagic's table use the others.
SAME = (
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
# Types in one container each, whose first bytes do not tell which it is: there the declared one stands.
ALIKE = (
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


def allows(types: tuple[str, ...], content_type: str) -> bool:
    """Whether a list of types, `image/*` among them, has this one by any of its names."""
    return any(name in types or f"{_kind(name)}/*" in types for name in _names(content_type))


def fits(types: tuple[str, ...], declared: str, detected: str) -> bool:
    """Whether a list of types takes a file of a declared type that it has, when the first bytes say another."""
    if allows(types, detected) or any(_names(declared)[0] in each and _names(detected)[0] in each for each in ALIKE):
        return True
    # What people write may begin like a patch, a mail or a script, and is a text all the same.
    return _kind(declared) == "text" and any(_kind(name) in ("text", "message") for name in _names(detected))


def _names(content_type: str) -> tuple[str, ...]:
    return next((names for names in SAME if content_type in names), (content_type,))


def _kind(content_type: str) -> str:
    return content_type.partition("/")[0]
