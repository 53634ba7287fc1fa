"""The console's scripts, styles and icons, from files of the package.

Their paths contain a hash of all of them. So browsers keep them without asking again, and a page never mixes scripts of
two versions.
"""

import gzip
import hashlib
import posixpath
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}  # other files are not served
# A comment that has its lines to itself. Type comments between expressions stay, and are few.
COMMENT = re.compile(rb"^[ \t]*/\*\*(?:[^*]|\*(?!/))*\*/[ \t]*$", re.MULTILINE)
LICENSED = "vendor/"  # modules of others, whose comments have their licences
VERSION_LENGTH = 16  # hexadecimal digits of the hash
STATIC_IMPORT = re.compile(rb"""\b(?:from|import)\s*["'](\.[^"']+)["']""")  # not of a call of `import()`


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent: its bytes, plain and compressed."""

    content_type: str
    body: bytes
    compressed: bytes


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by their paths, and the hash of them."""

    version: str
    by_path: dict[str, Asset]

    def url(self, path: str) -> str:
        """Return the path under which the service serves a file."""
        return f"/console/static/{self.version}/{path}"

    def with_imports(self, *paths: str) -> list[str]:
        """Return modules and all that they import, without what they load later, in the order in which they are met."""
        found: dict[str, None] = {}
        waiting = list(paths)
        while waiting:
            path = waiting.pop(0)
            if path in found:
                continue
            found[path] = None
            folder = posixpath.dirname(path)
            names = STATIC_IMPORT.findall(self.by_path[path].body)
            waiting += [posixpath.normpath(posixpath.join(folder, name.decode())) for name in names]
        return list(found)


@cache
def load_assets() -> Assets:
    """Read all files, on the first use: most processes never serve them."""
    read = dict(sorted(_read_files(files(__package__) / "static")))
    digest = hashlib.sha256()
    for path, asset in read.items():
        digest.update(f"{path}\0{len(asset.body)}\0".encode() + asset.body)
    return Assets(digest.hexdigest()[:VERSION_LENGTH], read)


def _read_files(folder: Traversable, prefix: str = "") -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        content_type = CONTENT_TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if entry.is_dir():
            found += _read_files(entry, f"{path}/")
        elif content_type and not entry.name.endswith(".d.ts"):
            body = entry.read_bytes()
            if path.endswith(".js") and not path.startswith(LICENSED):
                body = _without_comments(body)
            found.append((path, Asset(content_type, body, gzip.compress(body, mtime=0))))
    return found


def _without_comments(script: bytes) -> bytes:
    """Return a script without comments, a sixth of what a first load sends. Its lines keep their numbers."""
    return COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), script)
