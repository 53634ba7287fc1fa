"""The mail gateway of the documentation, and a mail server that delivers to a Maildir: the npm package `smtp-server`.

No server of PyPI is alive: the last release of aiosmtpd is two years old. The servers of Debian need root and a queue.
"""

import email
import email.policy
import importlib
import smtplib
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from tests.support.servers import MissingServer, Server, accepts, find_binary, free_port

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("server.mjs")
GATEWAY = ROOT / "docs" / "examples" / "mail_gateway.py"

sys.path.append(str(GATEWAY.parent))
mail_gateway = importlib.import_module(GATEWAY.stem)
"""The gateway as a module: it is in no package. The process that reads mails imports it by its name."""


class MailServer(Server):
    """A mail server that runs for the length of a block.

    Mail to `nobody@…` is refused, and mail to `full@…` is refused for the moment.
    """

    def __init__(self, folder: Path) -> None:
        if not (ROOT / "node_modules" / "smtp-server").exists():
            raise MissingServer("The tests need the npm package smtp-server: run `make services` first.")
        self._binary = find_binary("node")
        self.folder = folder
        self.port = free_port()
        folder.mkdir()

    def __enter__(self) -> Self:
        command = [self._binary, SCRIPT, str(self.port), self.folder]
        self.launch(command, lambda: accepts(self.port), self.folder / "log")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, mail: bytes | EmailMessage, *, sender: str = "", to: str = "support@shop.example") -> None:
        """Hand a mail over, as another mail server does; without a sender it is a report, with the envelope `<>`."""
        raw = mail if isinstance(mail, bytes) else mail.as_bytes()
        with smtplib.SMTP("127.0.0.1", self.port) as smtp:
            smtp.sendmail(sender, [to], raw)

    def refuse_for_now(self) -> None:
        """Refuse mails until `take_again`."""
        (self.folder / "busy").touch()

    def take_again(self) -> None:
        (self.folder / "busy").unlink()

    def waiting(self) -> list[Path]:
        """Return the mails that nobody has taken from the Maildir."""
        return sorted((self.folder / "new").iterdir())

    def delivered(self) -> list[EmailMessage]:
        """Return the mails of the Maildir, oldest first, whether taken or not."""
        files = sorted([*(self.folder / "new").iterdir(), *(self.folder / "cur").iterdir()], key=lambda path: path.name)
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in files]
