"""Copy what the console and its tests take from npm packages into the repository, or with --check compare the copies.

--check also compares the versions of the manifests with package-lock.json.

Browsers resolve no bare module names without an import map, which the console's content policy forbids, so the imports
of the copies are relative. A manifest beside the copies has the name, version, licence and SHA-256 of each.
"""

import argparse
import hashlib
import json
import posixpath
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "node_modules"
LOCK = ROOT / "package-lock.json"
# What is copied of each package. A module's type declarations, which only the checker reads, come with it.
MODULES = {
    ROOT / "src/support_service/console/static/vendor": {
        "@lit/reactive-element": ("css-tag.js", "reactive-element.js", "reactive-controller.d.ts"),
        "lit-element": ("lit-element.js",),
        "lit-html": (
            *("directive-helpers.js", "directive.js", "lit-html.js"),
            *("directives/guard.js", "directives/repeat.js"),
        ),
    },
    ROOT / "tests/support/console/vendor": {"axe-core": ("axe.min.js",)},
}
ENTRY_MODULES = {"@lit/reactive-element": "reactive-element.js", "lit-html": "lit-html.js"}  # of bare imports
LICENCE_FILE = "LICENSE"
BARE_IMPORT = re.compile(r"""(?<=\bfrom)(\s*)(["'])(?![./])([^"']+)\2|(?<=\bimport)(\s*)(["'])(?![./])([^"']+)\5""")
SOURCE_MAP = re.compile(r"\n?//# sourceMappingURL=\S+\s*$")
TYPES_ONLY = "trusted-types/"  # of imports that only type declarations have


def main() -> int:
    """Copy or compare, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="compare the copies with their manifests and the lock file"
    )
    if parser.parse_args().check:
        problems = [
            problem
            for folder, modules in MODULES.items()
            for problem in (*differences(folder), *other_versions(folder, modules))
        ]
        print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
        return 1 if problems else 0
    for folder, modules in MODULES.items():
        copy(folder, modules)
    return 0


def copy(folder: Path, modules: Mapping[str, tuple[str, ...]]) -> None:
    """Replace a folder by copies of modules, and write its manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    manifest: list[dict[str, Any]] = []
    for package, names in modules.items():
        described = json.loads((PACKAGES / package / "package.json").read_text())
        declared = [
            types for name in names if (PACKAGES / package / (types := name.removesuffix(".js") + ".d.ts")).exists()
        ]
        copied = {}
        for name in (*names, *declared, LICENCE_FILE):
            text = (PACKAGES / package / name).read_text()
            if name.endswith((".js", ".d.ts")) and not name.endswith(".min.js"):  # modules; others import nothing
                text = SOURCE_MAP.sub("\n", relative_imports(text, f"{package}/{name}"))
            target = folder / package / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            copied[f"{package}/{name}"] = sha256(target)
        manifest.append(
            {"name": package, "version": described["version"], "licence": described["license"], "sha256": copied}
        )
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def relative_imports(text: str, module: str) -> str:
    """Return a module's text with relative imports instead of bare ones. `module` is its path among the packages."""

    def rewrite(found: re.Match[str]) -> str:
        space, quote, name = (found[1], found[2], found[3]) if found[3] else (found[4], found[5], found[6])
        if name.startswith(TYPES_ONLY):
            return found[0]
        path = f"{name}/{ENTRY_MODULES[name]}" if name in ENTRY_MODULES else name
        relative = posixpath.relpath(path, posixpath.dirname(module))
        return f"{space}{quote}{relative if relative.startswith('.') else f'./{relative}'}{quote}"

    return BARE_IMPORT.sub(rewrite, text)


def differences(folder: Path) -> list[str]:
    """Return in words how a folder differs from its manifest."""
    expected = {
        name: digest
        for package in json.loads((folder / "manifest.json").read_text())
        for name, digest in package["sha256"].items()
    }
    present = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    return [
        f"{(folder / name).relative_to(ROOT)} differs from its manifest: run `make vendor`, and do not edit copies"
        for name in sorted(expected.keys() | present.keys())
        if expected.get(name) != present.get(name)
    ]


def other_versions(folder: Path, packages: Iterable[str]) -> list[str]:
    """Return in words which packages of a folder do not have the version of the lock file."""
    locked = json.loads(LOCK.read_text())["packages"]
    copied = {package["name"]: package["version"] for package in json.loads((folder / "manifest.json").read_text())}
    wanted = {name: locked[f"node_modules/{name}"]["version"] for name in packages}
    return [
        f"{folder.relative_to(ROOT)} does not have {name} {version}, which {LOCK.name} names: run `make vendor`"
        for name, version in wanted.items()
        if copied.get(name) != version
    ]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
