"""Files with one secret each, as Kubernetes and Docker mount them."""

from pathlib import Path


def read_secret_file(path: str) -> str:
    """Return the secret in a file, without the line break at its end. Raises OSError, or ValueError without a secret.

    A secret that is read for each new connection is replaced without a restart.
    """
    try:
        secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
    if not secret:
        raise ValueError("the file is empty")
    return secret
