"""A small mail gateway: mails become messages of cases, and answers of agents become mails.

    SUPPORT_TOKEN=… python mail_gateway.py --url http://127.0.0.1:8000 --maildir /var/mail/support \
        --state gateway.db --address support@shop.example --smtp 127.0.0.1:25

The mail server delivers the mails of the address to a Maildir, and takes the answers by SMTP. docs/api/channels.md
tells what happens with which mail. Copy the file and change it: it needs `support_service.client` and no other package.
"""

import argparse
import asyncio
import email
import email.policy
import hashlib
import logging
import mimetypes
import multiprocessing
import os
import re
import resource
import signal
import smtplib
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import formataddr, getaddresses
from html.parser import HTMLParser
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from support_service.client import (
    Case,
    Change,
    Conflict,
    Contact,
    CustomerChangeFields,
    Message,
    NotFound,
    Resync,
    SupportClient,
    SupportError,
    ValidationFailed,
)

CHANNEL = "email"
MAX_TEXT, MAX_SUBJECT, MAX_NAME, MAX_ID, MAX_FILES = 65_000, 250, 120, 200, 20  # the service takes a little more
MAX_REFERENCES = 20  # Message-IDs in a header
MAX_MAIL, MAX_ALL_FILES = 50 * 1024 * 1024, 200  # bytes and files of a mail
MAX_HEADER, MAX_HTML = 4_000, 200_000  # characters: the parsers of Python take seconds for some texts of this length
MAX_TRIES = 2  # to read a mail: the machine may have been busy, or have stopped meanwhile
READ_SECONDS = 15  # for a mail
MEMORY = 1024 * 1024 * 1024  # bytes, of the process that reads mails
OVERLAP = timedelta(minutes=5)  # by which changes are read again after the stream could not replay them
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
GIVE_UP_AFTER = 48.0  # hours
REFUSALS = (Conflict, NotFound, ValidationFailed)  # a repeat changes nothing
REFUSED_FILES = (413, 415)  # statuses: too large, or of a type that is not allowed
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SUBJECT_TOKEN = re.compile(rf"\[case ({UUID})\]")
BLOCKS = frozenset(("br", "div", "h1", "h2", "h3", "li", "p", "table", "tr", "ul"))  # elements that begin a line
# Of `From`: one mailbox. Where programs differ in what they read, such as nested comments, there is no match.
_WORD = r"[^\s\x00-\x20\x7f\"(),.:;<>@\[\\\]]+"
_ADDRESS = rf'(?:{_WORD}(?:\.{_WORD})*|"{_WORD}(?:[. ]{_WORD})*")@\w[\w-]*(?:\.\w[\w-]*)*'
_COMMENT = r'\([^()<>@"\\]*\)'
FROM = re.compile(
    rf'(?P<name>(?:"(?:[^"\\]|\\.)*"|{_COMMENT}|[^"(),:;<>@\[\\\]])*)<(?P<address>{_ADDRESS})>(?: ?{_COMMENT})?'
    rf"|(?P<bare>{_ADDRESS})(?: ?(?P<comment>{_COMMENT}))?"
)
UNSHOWN = frozenset(("head", "script", "style", "title"))
LOG = logging.getLogger("mail_gateway")


class Unclear(Exception):
    """A mail that the gateway does not take. It is set aside for a person."""


@dataclass(frozen=True)
class File:
    """A file of a mail."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Bounce:
    """What a mail server says about a mail that it could not deliver. `original` is the Message-ID of that mail."""

    original: str
    text: str


@dataclass(frozen=True)
class Mail:
    """A mail that has arrived."""

    id: str  # its Message-ID, or one made of its bytes
    sender: str  # empty for a bounce
    sender_name: str | None
    subject: str
    sent_at: datetime | None
    references: list[str]  # Message-IDs of the thread, the newest first
    text: str
    files: list[File]
    is_automatic: bool
    bounce: Bounce | None

    @property
    def customer_id(self) -> str:
        """The customer whose address has sent it."""
        return customer_id_of(self.sender)


def customer_id_of(address: str) -> str:
    """Return the id of the customer with an address: the service takes 36 characters, and logs ids."""
    return f"mail-{hashlib.sha256(address.lower().encode()).hexdigest()[:24]}"


def contact_of(address: str) -> Contact | None:
    """Return an address as a contact, or None for one that a customer can't have: without a domain, or with spaces."""
    try:
        return Contact(kind="email", value=address)
    except ValueError:
        return None


def short_id(message_id: str) -> str:
    """Return a Message-ID as an external id: as it is, or its hash if it is too long."""
    return message_id if len(message_id) <= MAX_ID else f"<{hashlib.sha256(message_id.encode()).hexdigest()}>"


class _BoundedHeaders(email.policy.EmailPolicy):
    """Leaves out the middle of a header that is too long: of `References` the first and the last ids count."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        half = MAX_HEADER // 2
        return name, value if len(value) <= MAX_HEADER else f"{value[:half]} {value[-half:]}"


POLICY = _BoundedHeaders()


def sender_of(raw: bytes, mail: EmailMessage) -> tuple[str, str]:
    """Return the name and the address in `From`. Raises Unclear unless there is exactly one mailbox without a defect.

    The mail server has checked the sender. So a mail is refused if another program may read another sender in it.
    """
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    if b"\0" in head or re.search(rb"\r(?!\n)", head):
        raise Unclear("its headers have a NUL, or a carriage return without a line feed")
    found = re.findall(rb"^from[ \t]*:(.*(?:\n[ \t].*)*)", head, re.IGNORECASE | re.MULTILINE)
    names = [name.lower() for name in mail.keys()]  # noqa: SIM118 - a mail is no dictionary: it yields no names
    if len(found) != 1 or names.count("from") != 1:  # a line that is no header may end the headers before it
        raise Unclear("it does not have exactly one header From")
    value = " ".join(found[0].decode(errors="replace").split())
    parsed = FROM.fullmatch(value) if len(value) <= MAX_HEADER else None
    address = (parsed["address"] or parsed["bare"]) if parsed else ""
    # A Kelvin sign, for example, is the letter k in lower case.
    is_plain = "=?" not in address and "\ufffd" not in address and address.isprintable()
    if not parsed or not is_plain or unicodedata.normalize("NFKC", address) != address:
        raise Unclear(f"From is not one mailbox: {value[:200]!r}")
    name = parsed["name"] or (parsed["comment"] or "")[1:-1]
    with suppress(LookupError, ValueError, MessageError):  # an unknown charset, or damaged base64
        name = str(make_header(decode_header(re.sub(r'"((?:[^"\\]|\\.)*)"', _unquoted, name))))
    name = _one_line(name)
    return "" if "@" in name else name, address.lower()  # agents could take the name for the address


def _unquoted(quoted: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1])


def read_mail(raw: bytes) -> Mail:
    """Return what the gateway needs of a mail. Damaged parts are read as far as possible. Raises Unclear."""
    mail = email.message_from_bytes(raw, policy=POLICY)
    assert isinstance(mail, EmailMessage)  # noqa: S101 - the policy makes no other
    bounce = _bounce(mail)
    name, sender = ("", "") if bounce else sender_of(raw, mail)
    texts: list[str] = []
    files: list[File] = []
    for part in _leaves(mail):
        content_type, filename = part.get_content_type(), part.get_filename()
        is_text = content_type in ("text/plain", "text/html") and not filename and not part.is_attachment()
        text = _decoded(part) if is_text else ""
        if is_text and content_type == "text/plain":
            texts.append(text)
        elif is_text and len(text) <= MAX_HTML:
            texts.append(text_of_html(text))
        else:
            kind = content_type if part.get_content_maintype() != "multipart" else "application/octet-stream"
            files.append(File(filename or f"part-{len(files) + 1}{_extension(kind)}", kind, _content(part)))
    if len(files) > MAX_ALL_FILES:
        raise Unclear(f"it has {len(files)} files. The limit is {MAX_ALL_FILES}")
    in_reply_to, references = (re.findall(r"<[^<>\s]+>", _header(mail, each)) for each in ("In-Reply-To", "References"))
    thread = [*reversed(references)] if references[-1:] == in_reply_to else [*in_reply_to, *reversed(references)]
    own = re.findall(r"<[^<>\s]+>", _header(mail, "Message-ID"))
    return Mail(
        id=own[0] if own else f"<{hashlib.sha256(raw).hexdigest()}>",
        sender=sender,
        sender_name=name[:MAX_NAME] or None,
        subject=_header(mail, "Subject").strip() or "(no subject)",
        sent_at=_sent_at(mail),
        references=thread[:MAX_REFERENCES] + thread[MAX_REFERENCES:][-1:],  # the last one has begun the thread
        text="\n".join(texts).replace("\0", "").replace("\r\n", "\n").strip() or "(no text)",
        files=files,
        is_automatic=_is_automatic(mail, sender),
        bounce=bounce,
    )


def _header(mail: EmailMessage, name: str) -> str:
    """Return a header as text on one line. Damaged ones raise errors in the parser."""
    try:
        value = str(mail.get(name) or "")
    except (AttributeError, IndexError, RecursionError, TypeError, ValueError):
        value = next((str(raw) for key, raw in mail.raw_items() if key.lower() == name.lower()), "")
    return _one_line(value)


def _one_line(value: str) -> str:
    printable = value.encode(errors="replace").decode()
    return " ".join("".join(each if each.isprintable() else " " for each in printable).split())


def _leaves(part: EmailMessage, *, html: bool = True) -> Iterator[EmailMessage]:
    """Yield the parts that hold something: of alternatives the plain text, of an attached mail the mail."""
    content_type = part.get_content_type()
    if content_type == "multipart/alternative":
        html = html and not any(each.get_content_type() == "text/plain" for each in part.iter_parts())
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for child in part.iter_parts():
            assert isinstance(child, EmailMessage)  # noqa: S101 - as above
            yield from _leaves(child, html=html)
    elif html or content_type != "text/html" or part.is_attachment():
        yield part


def _content(part: EmailMessage) -> bytes:
    if part.is_multipart():  # an attached mail, or the report of a mail server
        return b"\n".join(each.as_bytes() for each in part.get_payload() if isinstance(each, EmailMessage))
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _decoded(part: EmailMessage) -> str:
    """Return the text of a part. An unknown charset is read as UTF-8. What it does not have becomes a mark."""
    content = _content(part)
    try:
        return content.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:
        return content.decode(errors="replace")


def _extension(content_type: str) -> str:
    return ".eml" if content_type == "message/rfc822" else mimetypes.guess_extension(content_type) or ""


def _sent_at(mail: EmailMessage) -> datetime | None:
    """Return the time in `Date`, unless it is missing, damaged, without a zone, or one that the service refuses."""
    try:
        sent = email.utils.parsedate_to_datetime(_header(mail, "Date"))
    except (TypeError, ValueError):
        return None
    if sent.tzinfo is None:
        return None
    return sent if datetime(1970, 1, 1, tzinfo=UTC) < sent < datetime.now(UTC) + timedelta(minutes=4) else None


def _is_automatic(mail: EmailMessage, sender: str) -> bool:
    """Return whether a program has sent a mail: two programs could answer one another without end."""
    return (
        _header(mail, "Auto-Submitted").lower() not in ("", "no")
        or _header(mail, "Precedence").lower() in ("bulk", "junk", "list", "auto_reply")
        or bool(_header(mail, "X-Auto-Response-Suppress") or _header(mail, "X-Autoreply") or mail.get("List-Id"))
        or _header(mail, "Return-Path") == "<>"
        or sender.partition("@")[0] in ("mailer-daemon", "postmaster")
    )


def _bounce(mail: EmailMessage) -> Bounce | None:
    """Return what a delivery status notification (RFC 3464) says, or None if the mail is none."""
    if mail.get_content_type() != "multipart/report" or mail.get_param("report-type") != "delivery-status":
        return None
    original, lines = "", []
    for part in mail.walk():
        if part.get_content_type() == "text/rfc822-headers":
            part = email.message_from_bytes(_content(part), policy=POLICY)  # noqa: PLW2901
        if part is not mail and part["Message-ID"]:
            original = original or str(part["Message-ID"]).strip()
        if part["Final-Recipient"]:
            fields = (str(part[name] or "").rpartition(";")[2].strip() for name in BOUNCE_FIELDS)
            lines.append(" ".join(filter(None, fields)))
    return Bounce(original, "\n".join(lines) or "(the report names no recipient)")


BOUNCE_FIELDS = ("Action", "Final-Recipient", "Status", "Diagnostic-Code")


class _ShownText(HTMLParser):
    """Collects the text that a browser would show."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unshown = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self._unshown += tag in UNSHOWN
        if tag in BLOCKS:
            self.parts.append("\n- " if tag == "li" else "\n")

    def handle_endtag(self, tag: str) -> None:
        self._unshown -= tag in UNSHOWN and self._unshown > 0
        if tag in BLOCKS and tag != "br":
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unshown:
            self.parts.append(re.sub(r"\s+", " ", data))


def text_of_html(html: str) -> str:
    """Return the text of an HTML page, with a line for each block."""
    parser = _ShownText()
    parser.feed(html)
    parser.close()
    lines = (line.strip() for line in "".join(parser.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class ReadingFailed(Exception):
    """The process that reads mails has died, or can't start."""


class Reader:
    """Reads mails in a process of its own. A mail that needs too much time or memory ends that process alone."""

    def __init__(self, seconds: float = READ_SECONDS) -> None:
        self._seconds = seconds
        self._process: tuple[SpawnProcess, Connection] | None = None

    def start(self) -> Connection:
        """Start the process unless it runs. Return the connection with it when it is ready. Raises ReadingFailed."""
        if self._process is None:
            try:
                context = multiprocessing.get_context("spawn")
                own, other = context.Pipe()
                process = context.Process(target=_answer_with_mails, args=[other, self._seconds], daemon=True)
                process.start()
                other.close()
                own.recv()
            except (EOFError, OSError) as failure:  # the machine lacks memory, for example: no fault of the mail
                raise ReadingFailed(f"the process that reads mails can't start: {failure!r}") from failure
            self._process = process, own
        return self._process[1]

    def read(self, path: Path) -> Mail | str:
        """Return the mail in a file, or the reason why it is set aside. Raises ReadingFailed."""
        connection = self.start()
        try:
            connection.send(path)
            found: Mail | str = connection.recv()
        except (EOFError, OSError) as failure:
            self._process = None
            raise ReadingFailed(f"reading it took {self._seconds:g} s, or its process was killed") from failure
        return found


def _answer_with_mails(connection: Connection, seconds: float) -> None:
    """Read the files that are named on a connection, until the gateway ends. SIGALRM kills the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    connection.send("ready")
    found: Mail | str
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            path = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                found = read_mail(path.read_bytes())
            except Unclear as reason:
                found = str(reason)
            except Exception as failure:  # noqa: BLE001 - whatever it is, a person looks at the mail
                found = f"it can't be read: {failure!r}"
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(found)


@dataclass(frozen=True)
class Address:
    """The address of the support. Message-IDs of answers name the case and the message, so that replies find them."""

    name: str
    mail: str

    @property
    def domain(self) -> str:
        """What follows the `@`."""
        return self.mail.rpartition("@")[2]

    def message_id(self, message: Message) -> str:
        """Return the Message-ID of the mail of a message: the same each time, so that a repeat is recognized."""
        return f"<{message.id}.{message.ticket_id}@{self.domain}>"

    def ids_in(self, message_id: str) -> tuple[str, str] | None:
        """Return the ids of the message and the case that the Message-ID of an answer names, or None for other ones."""
        found = re.fullmatch(rf"<({UUID})\.({UUID})@{re.escape(self.domain)}>", message_id)
        return (found[1], found[2]) if found else None


async def find_case_of(client: SupportClient, case_id: str, names: Sequence[str]) -> Case:
    """Return the case that has the first known one of some messages: this one, or one that was split from it.

    `names` are ids and external ids. If no message is known, it is this case. Raises NotFound without such a case.
    """
    cases = [await client.get_case(case_id)]
    known: dict[str | None, Case] = {}
    for case in cases:  # grows
        for message in case.messages:
            known.setdefault(message.id, case)
            known.setdefault(message.external_id, case)
        if names[0] in known:
            break
        for link in case.links:
            if link.kind == "split-into":
                with suppress(NotFound):  # it was deleted
                    cases.append(await client.get_case(link.case_id))
    return next((known[name] for name in names if name in known), cases[0])


class Incoming:
    """Takes the mails of a Maildir: each stays in `new` until the service has acknowledged it."""

    def __init__(
        self, client: SupportClient, state: "State", maildir: Path, address: Address, reader: Reader | None = None
    ) -> None:
        self._client = client
        self._state = state
        self._maildir = maildir
        self._address = address
        self._reader = reader or Reader()

    async def run(self) -> None:
        """Take mails, the oldest first, until the process ends."""
        for folder in ("new", "cur", "tmp", ".failed/new", ".failed/cur", ".failed/tmp"):
            (self._maildir / folder).mkdir(parents=True, exist_ok=True)
        pause = FIRST_PAUSE
        while True:
            pause = FIRST_PAUSE
            for path in sorted((self._maildir / "new").iterdir()):
                if not await self._take_file(path):
                    pause = LONGEST_PAUSE / 6
            await asyncio.sleep(pause)

    async def _take_file(self, path: Path) -> bool:
        """Take a mail and move its file. Return False if it stays: it is tried again later."""
        failed = self._maildir / ".failed" / "new" / path.name
        try:
            outcome = await self.take(await self._read(path))
            target = self._maildir / "cur" / f"{path.name.partition(':')[0]}:2,S"
        except REFUSALS as refusal:
            if refusal.code == "idempotency_answer_lost":  # it has taken effect: a repeat finds it by its external id
                return False
            outcome, target = f"refused: {refusal}", failed
        except (SupportError, ReadingFailed) as failure:
            LOG.warning("%s waits: %s", path.name, failure)
            return False
        except Unclear as reason:
            outcome, target = f"set aside: {reason}", failed
        except Exception:
            LOG.exception("%s can't be taken", path.name)
            outcome, target = "set aside: it can't be taken", failed
        try:
            await asyncio.to_thread(path.rename, target)
        except OSError:
            LOG.exception("%s can't be moved to %s", path.name, target)
            return False
        self._state.forget_tries(path.name)
        LOG.info("%s: %s", path.name, outcome)
        return True

    async def _read(self, path: Path) -> Mail:
        """Read a mail. Raises Unclear, also after the last try, and ReadingFailed before it."""
        size = (await asyncio.to_thread(path.stat)).st_size
        if size > MAX_MAIL:
            raise Unclear(f"it has {size} bytes. The limit is {MAX_MAIL}")
        await asyncio.to_thread(self._reader.start)
        tries = self._state.count_try(path.name)
        if tries > MAX_TRIES:
            raise Unclear(f"the gateway ended {MAX_TRIES} times while it read the mail")
        try:
            found = await asyncio.to_thread(self._reader.read, path)
        except ReadingFailed as failure:
            if tries == MAX_TRIES:
                raise Unclear(f"{failure}, {tries} times") from failure
            raise
        self._state.forget_tries(path.name)
        if isinstance(found, str):
            raise Unclear(found)
        return found

    async def take(self, mail: Mail) -> str:
        """Bring a mail to its case. Return what was done. A mail that was taken before changes nothing."""
        if mail.bounce:
            return await self._note_bounce(mail, mail.bounce)
        if mail.sender == self._address.mail:
            return "dropped: it is from this address"
        case, foreign = await self._find_case(mail)
        if case is None and mail.is_automatic:
            return "dropped: a program has sent it"
        if case is None:
            case = await self._open_case(mail, short_id(mail.references[-1] if mail.references else mail.id), foreign)
        case = await self._follow_splits(case, mail)
        if mail.is_automatic:
            await self._add_note(case.id, mail, f"Automatic mail from {mail.sender}:\n{mail.text}")
            return f"noted in {case.id}"
        while True:
            try:
                await self._add_message(case.id, mail)
            except Conflict as refusal:
                if refusal.code not in ("case_closed", "case_full"):
                    raise
                # One case takes what is sent to a closed one, until it is closed as well.
                case = await self._open_case(mail, f"after {case.id}", case.id)
            else:
                return f"added to {case.id}"

    async def _find_case(self, mail: Mail) -> tuple[Case | None, str | None]:
        """Return the sender's case that a mail answers to, or the id of another customer's case that it names."""
        ids = [ids[1] for each in mail.references if (ids := self._address.ids_in(each))]
        if not mail.references and (token := SUBJECT_TOKEN.search(mail.subject)):
            ids = [token[1]]
        foreign = None
        for case_id in dict.fromkeys(ids):
            try:
                case = await self._client.get_case(case_id, messages_limit=1)
            except NotFound:
                continue
            if case.customer_id == mail.customer_id:
                return case, None
            foreign = foreign or case_id
        return None, foreign

    async def _follow_splits(self, case: Case, mail: Mail) -> Case:
        """Return the case that has the mail, or else the newest message of its thread, after splits."""
        if not any(link.kind == "split-into" for link in case.links):
            return case
        answers = [self._address.ids_in(each) for each in mail.references]
        thread = [ids[0] if ids else short_id(each) for ids, each in zip(answers, mail.references, strict=True)]
        return await find_case_of(self._client, case.id, [short_id(mail.id), *thread])

    async def _open_case(self, mail: Mail, thread: str, related: str | None) -> Case:
        """Open a case for a thread of a customer, or return its case.

        The external id has the customer: a sender who names the thread of another customer gets a case of their own.
        """
        contact = contact_of(mail.sender)
        if contact and not await self._is_known(mail):
            fields: CustomerChangeFields = {"contacts": [contact]}
            if mail.sender_name:
                fields["name"] = mail.sender_name
            try:
                await self._client.put_customer(mail.customer_id, **fields)
            except Conflict as refusal:
                if refusal.code != "customer_merged":  # staff have merged it meanwhile, and know who it is
                    raise
        case = await self._client.open_case(
            subject=mail.subject[:MAX_SUBJECT],
            channel=CHANNEL,
            customer_id=mail.customer_id,
            external_id=f"{mail.customer_id} {thread}",
        )
        if related and related != case.id:
            with suppress(Conflict):  # one of them has as many links as a case may have
                await self._client.add_link(case.id, related, "related")
        return case

    async def _is_known(self, mail: Mail) -> bool:
        """Return whether somebody has the address, or staff know already who the sender is."""
        if await self._client.find_customers(contact=mail.sender, limit=1):
            return True
        try:
            known = await self._client.get_customer(mail.customer_id, limit=1)
        except NotFound:
            return False
        return bool(known.name or known.contacts or known.notes or len(known.identities) > 1)

    async def _add_message(self, case_id: str, mail: Mail) -> None:
        """Add a mail to a case, with its files. A text that is too long is a file, too."""
        files, text = mail.files, mail.text
        if len(text) > MAX_TEXT:
            files = [*files, File("message.txt", "text/plain", text.encode())]
            text = f"{text[:MAX_TEXT]}…\n[The whole text is in message.txt.]"
        ids = []
        for file in files:
            try:
                stored = await self._client.upload(
                    case_id, file.content, filename=file.name, content_type=file.content_type, staged=True
                )
            except ValidationFailed as refusal:
                if refusal.status not in REFUSED_FILES:
                    raise
                text = f"{text[:MAX_TEXT]}\n[The file {file.name[:80]} was refused: {refusal.detail}]"
            else:
                ids.append(stored.id)
        for number, start in enumerate(range(0, max(len(ids), 1), MAX_FILES)):
            await self._client.add_message(
                case_id,
                author_type="customer",
                message=text if number == 0 else "(more files)",
                external_id=short_id(mail.id) + (f" {number}" if number else ""),
                attachment_ids=ids[start : start + MAX_FILES],
                metadata={"mail": {"from": mail.sender, "messageId": mail.id}},
                sent_at=mail.sent_at,
            )

    async def _add_note(self, case_id: str, mail: Mail, text: str) -> None:
        await self._client.add_message(
            case_id, author_type="bot", visibility="internal", message=text[:MAX_TEXT], external_id=short_id(mail.id)
        )

    async def _note_bounce(self, mail: Mail, bounce: Bounce) -> str:
        """Note in its case that an answer was not delivered. Reports about other mails are dropped."""
        ids = self._address.ids_in(bounce.original)
        if ids is None:
            return "dropped: a report about another mail"
        try:
            case = await find_case_of(self._client, ids[1], ids[:1])
        except NotFound:
            return "dropped: a report about a case that is not there"
        if ids[0] not in {message.id for message in case.messages}:
            return "dropped: a report about a message that is not there"
        await self._add_note(case.id, mail, f"A mail server reports about message {ids[0]}:\n{bounce.text}")
        return f"noted in {case.id}"


@dataclass(frozen=True)
class Answer:
    """A message that is to be sent, and the case and the Message-ID that it had when it was written."""

    message_id: str
    case_id: str
    mail_id: str


class State:
    """What the gateway keeps: the position in the stream, the answers, waiting or done, and tries to read mails."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers (message_id TEXT PRIMARY KEY, case_id TEXT NOT NULL, "
            "mail_id TEXT NOT NULL, failing_since TEXT, done INTEGER NOT NULL DEFAULT 0)"
        )
        self._database.execute("CREATE INDEX IF NOT EXISTS waiting ON answers (done) WHERE done = 0")
        self._database.execute("CREATE TABLE IF NOT EXISTS tries (mail TEXT PRIMARY KEY, number INTEGER NOT NULL)")
        self._database.execute("CREATE TABLE IF NOT EXISTS stream (position TEXT, at TEXT, began TEXT)")
        first = "INSERT INTO stream SELECT 'none', ?1, ?1 WHERE NOT EXISTS (SELECT * FROM stream)"
        self._database.execute(first, [datetime.now(UTC).isoformat()])

    def position(self) -> str:
        """Return the position of the last change that was seen: at first one that can't be replayed."""
        (position,) = self._database.execute("SELECT position FROM stream").fetchone()
        return str(position)

    def unseen_since(self) -> datetime:
        """Return the time since which changes may not have been seen: at most since the first start."""
        at, began = self._database.execute("SELECT at, began FROM stream").fetchone()
        return max(datetime.fromisoformat(at) - OVERLAP, datetime.fromisoformat(began))

    def move(self, position: str, at: datetime) -> None:
        """Note that all changes up to a position were seen."""
        self._database.execute("UPDATE stream SET position = ?, at = ?", [position, at.isoformat()])

    def add(self, answer: Answer) -> None:
        """Note that an answer is to be sent, unless it is known."""
        add = "INSERT OR IGNORE INTO answers (message_id, case_id, mail_id) VALUES (?, ?, ?)"
        self._database.execute(add, [answer.message_id, answer.case_id, answer.mail_id])

    def waiting(self) -> list[Answer]:
        """Return the answers that are to be sent, oldest first."""
        select = "SELECT message_id, case_id, mail_id FROM answers WHERE done = 0 ORDER BY rowid"
        return [Answer(*row) for row in self._database.execute(select)]

    def mail_id(self, message_id: str) -> str | None:
        """Return the Message-ID of an answer, or None if it is not known."""
        row = self._database.execute("SELECT mail_id FROM answers WHERE message_id = ?", [message_id]).fetchone()
        return str(row[0]) if row else None

    def count_try(self, mail: str) -> int:
        """Note that a mail is going to be read. Return how many times this has begun, also before a restart."""
        add = "INSERT INTO tries VALUES (?, 1) ON CONFLICT DO UPDATE SET number = number + 1 RETURNING number"
        ((number,),) = self._database.execute(add, [mail]).fetchall()
        return int(number)

    def forget_tries(self, mail: str) -> None:
        """Note that a mail was read, or set aside."""
        self._database.execute("DELETE FROM tries WHERE mail = ?", [mail])

    def failing_for(self, answer: Answer) -> timedelta:
        """Note that an answer was not sent. Return for how long this is so."""
        now = datetime.now(UTC)
        update = "UPDATE answers SET failing_since = coalesce(failing_since, ?) WHERE message_id = ?"
        self._database.execute(update, [now.isoformat(), answer.message_id])
        select = "SELECT failing_since FROM answers WHERE message_id = ?"
        (since,) = self._database.execute(select, [answer.message_id]).fetchone()
        return now - datetime.fromisoformat(since)

    def finish(self, answer: Answer) -> None:
        """Note that an answer was sent, or will never be."""
        self._database.execute("UPDATE answers SET done = 1 WHERE message_id = ?", [answer.message_id])


class Outgoing:
    """Sends what agents answer in cases of customers who wrote mails. A mail is sent again only after a crash."""

    def __init__(
        self,
        client: SupportClient,
        state: State,
        address: Address,
        smtp: tuple[str, int],
        give_up_after: timedelta = timedelta(hours=GIVE_UP_AFTER),
    ) -> None:
        self._client = client
        self._state = state
        self._address = address
        self._smtp = smtp
        self._give_up_after = give_up_after
        self._pauses: dict[str, tuple[float, float]] = {}  # by case: when it is tried again, and the pause before that

    async def run(self) -> None:
        """Follow the changes of all cases, and send answers, until the process ends."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._follow())
            both.create_task(self._send_waiting())

    async def _follow(self) -> None:
        """Note the answers of all cases."""
        async for item in self._client.stream(after=self._state.position()):
            if isinstance(item, Resync):
                now = datetime.now(UTC)
                while not await self._catch_up(self._state.unseen_since()):  # noqa: ASYNC110 - each turn is a try
                    await asyncio.sleep(FIRST_PAUSE)
                self._state.move(item.position or "none", now)
            elif isinstance(item, Change):
                if item.message:
                    self._note(item.message)
                self._state.move(item.position, item.at)

    async def _catch_up(self, since: datetime) -> bool:
        """Note the answers that the stream can't replay. Return False if the service went away meanwhile."""
        try:
            async for listed in self._client.list_cases(channel=CHANNEL, updated_after=since, sort="updated"):
                with suppress(NotFound):  # it was deleted meanwhile
                    for message in (await self._client.get_case(listed.id)).messages:
                        if message.created_at > since:
                            self._note(message)
        except REFUSALS:
            raise
        except SupportError as failure:
            LOG.warning("reading the answers that were missed is tried again: %s", failure)
            return False
        return True

    def _note(self, message: Message) -> None:
        if _is_answer(message):
            self._state.add(Answer(message.id, message.ticket_id, self._address.message_id(message)))

    async def _send_waiting(self) -> None:
        """Send the answers of each case in their order. An answer that fails delays only answers of its own case."""
        while True:
            for answer in self._state.waiting():
                try_at, pause = self._pauses.get(answer.case_id, (0.0, FIRST_PAUSE))
                if time.monotonic() >= try_at:
                    if await self._send(answer):
                        self._pauses.pop(answer.case_id, None)
                    else:
                        self._pauses[answer.case_id] = (time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE))
            await asyncio.sleep(FIRST_PAUSE / 5)

    async def _send(self, answer: Answer) -> bool:
        """Send an answer, or note in its case why this is impossible. Return False if it is to be tried again."""
        try:
            if mail := await self._mail_of(answer):
                await asyncio.to_thread(self._hand_over, mail)
                LOG.info("message %s sent as %s", answer.message_id, answer.mail_id)
            else:
                LOG.info("message %s goes to no mail address", answer.message_id)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it must not hold up the other answers
            reason, is_final = _reason_of(failure)
            if not is_final and self._state.failing_for(answer) >= self._give_up_after:
                reason, is_final = f"it could not be sent for {self._give_up_after}: {reason}", True
            if not is_final or not await self._note_refusal(answer, reason):
                LOG.warning("message %s waits: %s", answer.message_id, reason)
                return False
        self._state.finish(answer)
        return True

    def _hand_over(self, mail: EmailMessage) -> None:
        with smtplib.SMTP(*self._smtp, timeout=60) as smtp:
            smtp.send_message(mail, from_addr=self._address.mail)

    async def _note_refusal(self, answer: Answer, refusal: str) -> bool:
        """Tell staff that an answer was not sent. Return False if the service can't be reached."""
        LOG.warning("message %s is not sent: %s", answer.message_id, refusal)
        try:
            await self._client.add_message(
                answer.case_id,
                author_type="bot",
                visibility="internal",
                message=f"Message {answer.message_id} was not sent: {refusal}",
                external_id=f"refused {answer.message_id}",
            )
        except REFUSALS as failure:  # such as a case that was deleted
            LOG.warning("message %s: the note is refused: %s", answer.message_id, failure)
        except SupportError:
            return False
        return True

    async def _mail_of(self, answer: Answer) -> EmailMessage | None:
        """Return the mail of an answer, or None if the customer of the case has written no mail.

        Raises ValueError if the message can't be read or written, and MailOnItsWay.
        """
        case = await find_case_of(self._client, answer.case_id, [answer.message_id])
        message = next((each for each in case.messages if each.id == answer.message_id), None)
        if message is None:
            raise ValueError("the message is not in its case")
        receiver, thread = self._thread_of(case, message)
        for link in case.links:
            if not receiver and link.kind == "split-from":  # the mails of the customer have stayed there
                receiver, thread = self._thread_of(await self._client.get_case(link.case_id), message)
        is_own = case.channel == CHANNEL and (case.external_id or "").startswith(f"{case.customer_id} ")
        if not receiver and is_own:  # `_open_case` has opened it
            raise MailOnItsWay("the mail that opened the case is not in it yet")
        if not receiver:
            return None
        mail = EmailMessage()
        address = formataddr((self._address.name, self._address.mail))
        mail["From"] = mail["Reply-To"] = address
        mail["To"] = receiver
        mail["Subject"] = f"Re: {' '.join(SUBJECT_TOKEN.sub('', case.subject).split())} [case {case.id}]"
        mail["Date"] = message.created_at
        mail["Message-ID"] = answer.mail_id
        mail["In-Reply-To"] = thread[-1]
        mail["References"] = " ".join(thread[:1] + thread[1:][-MAX_REFERENCES:])
        mail["Auto-Submitted"] = "no"
        mail.set_content(message.message, cte="quoted-printable")
        for attachment in case.attachments:
            if attachment.id in message.attachment_ids:
                content = b"".join([block async for block in self._client.download(attachment)])
                maintype, _, subtype = attachment.content_type.partition(";")[0].partition("/")
                if maintype in ("message", "multipart"):  # as bytes they would be no such part
                    maintype, subtype = "application", "octet-stream"
                mail.add_attachment(content, maintype=maintype, subtype=subtype, filename=attachment.filename)
        return mail

    def _thread_of(self, case: Case, message: Message) -> tuple[str, list[str]]:
        """Return the last address of the customer of a case, or nothing, and the Message-IDs before a message.

        If the message was written before the first mail was added to its case, return what that mail has.
        """
        receiver, thread, is_behind = "", [], False
        for each in case.messages:
            is_behind = is_behind or each.id == message.id
            if is_behind and receiver:
                break
            origin = (each.metadata or {}).get("mail") or {}
            if each.author_type == "customer" and customer_id_of(origin.get("from", "")) == case.customer_id:
                receiver = origin["from"]
                thread.append(origin["messageId"])
            elif _is_answer(each) and not is_behind:
                thread.append(self._state.mail_id(each.id) or self._address.message_id(each))
        return receiver, thread


class MailOnItsWay(Exception):
    """An answer was written before the mail was added to the case that was opened for it."""


def _is_answer(message: Message) -> bool:
    return message.author_type == "agent" and message.visibility == "public"


def _reason_of(failure: Exception) -> tuple[str, bool]:
    """Return why an answer was not sent, and whether it would be the same each time."""
    if isinstance(failure, REFUSALS):
        return f"the service refuses it: {failure}", True
    if isinstance(failure, MailOnItsWay):
        return str(failure), False
    if isinstance(failure, ValueError | smtplib.SMTPNotSupportedError):
        return f"it can't be written as a mail: {failure}", True
    if isinstance(failure, smtplib.SMTPRecipientsRefused):
        refusals: list[tuple[int, bytes | str]] = [*failure.recipients.values()]
    elif isinstance(failure, smtplib.SMTPResponseException):
        refusals = [(failure.smtp_code, failure.smtp_error)]  # bytes, or text
    else:
        return repr(failure), False
    code, said = refusals[0]
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return f"{code} {text}", code >= 500  # noqa: PLR2004 - the permanent codes of SMTP


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="address of the service. SUPPORT_TOKEN is a supervisor's token")
    parser.add_argument("--maildir", required=True, type=Path, help="the Maildir that the mail server delivers to")
    parser.add_argument("--state", required=True, type=Path, help="file of what was sent. It must survive restarts")
    parser.add_argument("--address", required=True, help="'Shop <support@shop.example>': the sender of the answers")
    parser.add_argument("--smtp", required=True, help="HOST:PORT of the mail server that takes the answers")
    parser.add_argument("--give-up-after", type=float, default=GIVE_UP_AFTER, help="hours (default %(default)s)")
    return parser.parse_args(given)


async def main(options: argparse.Namespace) -> None:
    """Run both directions. The failure of one ends both, so that a supervisor starts them again."""
    ((name, mail),) = getaddresses([options.address])
    host, _, port = options.smtp.rpartition(":")
    address = Address(name, mail.lower())
    async with SupportClient(options.url, token=os.environ.get("SUPPORT_TOKEN")) as client, asyncio.TaskGroup() as both:
        state, give_up_after = State(options.state), timedelta(hours=options.give_up_after)
        both.create_task(Incoming(client, state, options.maildir, address).run())
        both.create_task(Outgoing(client, state, address, (host, int(port)), give_up_after).run())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main(arguments()))
