"""Mails become messages of cases, answers of agents become mails, each once, and no mail is lost."""

import asyncio
import os
import random
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from email.message import EmailMessage
from functools import partial
from itertools import count
from multiprocessing import resource_tracker, spawn
from uuid import uuid4

import pytest

from support_service.client import SupportClient, SupportError
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.mail import GATEWAY, MailServer, mail_gateway
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

SUPPORT = "support@shop.example"
KILLS = int(os.environ.get("MAIL_KILLS", "2"))
MAILS = int(os.environ.get("MAIL_MAILS", "12"))  # in the test of kills; as many answers
LONG = 120.0  # seconds: a mail that was refused waits for up to 30, and for twice as long if it is refused again


class Desk:
    """A gateway between a service and two mail servers, and a customer whose address no other test has."""

    def __init__(self, address, folder, token=None):
        self.incoming, self.outgoing = MailServer(folder / "incoming"), MailServer(folder / "outgoing")
        self.client = SupportClient(address, token=token)
        self.ann = f"Ann.{uuid4().hex[:8]}@Customers.example"
        self._state = folder / "gateway.db"
        options = {"url": address, "maildir": self.incoming.folder, "state": self._state}
        options |= {"address": f"Shop <{SUPPORT}>", "smtp": f"127.0.0.1:{self.outgoing.port}"}
        self._arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._token = {"SUPPORT_TOKEN": token} if token else {}
        self._log = folder / "gateway.log"
        self._kill = asyncio.Event()
        self.starts = 0

    @asynccontextmanager
    async def open(self):
        """Run everything for the length of a block; the gateway is started again when it was killed."""
        with self.incoming, self.outgoing:
            async with self.client:
                gateway = asyncio.create_task(self._run())
                yield self
                gateway.cancel()
                with suppress(asyncio.CancelledError):
                    await gateway

    async def _run(self):
        with self._log.open("ab") as log:
            while True:
                self._kill.clear()
                self.starts += 1
                program = {"cwd": GATEWAY.parent, "module": "mail_gateway", "forked": False, "output": log}
                async with running(*self._arguments, **program, **self._token):
                    await self._kill.wait()  # `running` kills

    def kill(self):
        self._kill.set()

    def send(self, text="Where is my parcel?", *, sender=None, **headers):
        """Send a mail to the support; return its Message-ID."""
        mail = mail_of(text, sender or f"Ann <{self.ann}>", **headers)
        self.incoming.send(mail, sender=sender or self.ann)
        return mail["Message-ID"]

    async def taken(self):
        """Wait until the gateway has taken all mails; return the cases of the customer, oldest first."""
        await eventually(lambda: not self.incoming.waiting(), LONG)
        return await self.cases_of(self.ann)

    async def cases_of(self, sender):
        customer_id = mail_gateway.customer_id_of(sender)
        listed = [case.id async for case in self.client.list_cases(customer_id=customer_id)]
        return [await self.client.get_case(case_id) for case_id in reversed(listed)]

    async def sent(self, number):
        """Wait until mails were sent; return all, oldest first."""
        await eventually(lambda: len(self.outgoing.delivered()) >= number, LONG)
        return self.outgoing.delivered()

    def tried(self, message_id):
        """Return whether the gateway has tried to send an answer."""
        with closing(sqlite3.connect(self._state)) as state:
            select = "SELECT 1 FROM answers WHERE message_id = ? AND (done OR failing_since IS NOT NULL)"
            return state.execute(select, [message_id]).fetchone()

    def failed(self):
        """Return the names of the mails that were set aside."""
        return [path.name for path in (self.incoming.folder / ".failed" / "new").iterdir()]


def mail_of(text, sender, **headers):
    """Return a mail; `_` in names of headers stands for `-`."""
    mail = EmailMessage()
    given = {"From": sender, "To": SUPPORT, "Subject": "A parcel", "Message-ID": f"<{uuid4().hex}@customers.example>"}
    for name, value in (given | {name.replace("_", "-"): value for name, value in headers.items()}).items():
        mail[name] = value
    mail.set_content(text)
    return mail


@pytest.fixture
async def desk(shared_address, tmp_path):
    async with Desk(shared_address, tmp_path).open() as desk:
        yield desk


def texts(case):
    return [message.message for message in case.messages]


async def test_thread_of_mails_is_one_case(desk):
    """A mail opens a case, a second one joins it, the answer goes out with its file, and the reply comes back.

    Notes, and messages of bots, do not go out.
    """
    first = desk.send("Größe 40, bitte", Subject="Schuhe")
    second = desk.send("In blue", Subject="Re: Schuhe", In_Reply_To=first, References=first)
    (case,) = await desk.taken()
    assert (case.subject, case.channel, texts(case)) == ("Schuhe", "email", ["Größe 40, bitte", "In blue"])
    assert [message.external_id for message in case.messages] == [first, second]
    customer = await desk.client.get_customer(case.customer_id)
    assert (case.customer_name, customer.name, customer.contacts[0].value) == ("Ann", "Ann", desk.ann.lower())

    await desk.client.add_message(case.id, author_type="agent", message="Ask the store", visibility="internal")
    await desk.client.add_message(case.id, author_type="bot", message="We are on it")
    photo = await desk.client.upload(case.id, b"\x89PNG", filename="blau ü.png", content_type="image/png", staged=True)
    answer = await desk.client.add_message(
        case.id, author_type="agent", message="Wir haben blaue.\n\n.\nGrüße", attachment_ids=[photo.id]
    )
    (mail,) = await desk.sent(1)
    assert mail["Message-ID"] == f"<{answer.id}.{case.id}@shop.example>"
    assert (mail["From"], mail["Reply-To"]) == (f"Shop <{SUPPORT}>", f"Shop <{SUPPORT}>")
    assert (mail["To"], mail["Return-Path"]) == (desk.ann.lower(), f"<{SUPPORT}>")
    assert (mail["Subject"], mail["Auto-Submitted"]) == (f"Re: Schuhe [case {case.id}]", "no")
    assert (mail["In-Reply-To"], mail["References"]) == (second, f"{first} {second}")
    body, file = mail.iter_parts()
    assert body.get_content().replace("\r\n", "\n") == "Wir haben blaue.\n\n.\nGrüße\n"
    assert (file.get_filename(), file.get_content_type(), file.get_content()) == ("blau ü.png", "image/png", b"\x89PNG")

    desk.send("Danke", Subject="Re: Schuhe", In_Reply_To=mail["Message-ID"])  # some programs leave References out
    desk.send("Noch etwas", Subject=mail["Subject"])  # and some both
    (case,) = await desk.taken()
    assert texts(case)[-2:] == ["Danke", "Noch etwas"]
    await desk.client.close_case(case.id, message="Gern.")
    assert (await desk.sent(2))[1].get_body().get_content().strip() == "Gern."


async def test_answer_that_is_written_before_the_mail_is_stored_is_sent(desk):
    """The gateway opens a case first and adds the mail then; an agent may answer in between."""
    desk.send(sender="bob@customers.example")
    await desk.taken()  # the gateway runs, and sends what is answered from now on
    mail = mail_of("Where is my parcel?", desk.ann)
    sender, first = mail_gateway.customer_id_of(desk.ann), mail["Message-ID"]
    opened = {"subject": "A parcel", "channel": "email", "customer_id": sender, "external_id": f"{sender} {first}"}
    case = await desk.client.open_case(**opened)
    early = [await desk.client.add_message(case.id, author_type="agent", message=each) for each in ("One", "Two")]
    await eventually(lambda: desk.tried(early[0].id))
    desk.incoming.send(mail, sender=desk.ann)
    sent = {each["Message-ID"]: each for each in await desk.sent(2)}
    assert sent.keys() == {f"<{each.id}.{case.id}@shop.example>" for each in early}
    assert {(each["To"], each["In-Reply-To"]) for each in sent.values()} == {(desk.ann.lower(), first)}


async def test_what_staff_know_of_a_sender_stays(desk):
    """Also if the record does not have the address, or can't be changed because the customer was merged."""
    sender, person = mail_gateway.customer_id_of(desk.ann), f"CUS-{uuid4().hex[:8]}"
    await desk.client.put_customer(sender, name="Ann Chan", notes="Call her.")
    desk.send()
    await desk.taken()
    known = await desk.client.get_customer(sender)
    assert (known.name, known.contacts, known.notes) == ("Ann Chan", [], "Call her.")
    await desk.client.put_customer(person, name="Ann")
    await desk.client.merge_customer(sender, person)
    desk.send()
    assert len(await desk.taken()) == 2
    assert desk.failed() == []


async def test_mail_of_an_unusual_address_opens_a_case(desk):
    """Also if no customer can have the address as a contact. Mail servers deliver at least once: a mail counts once."""
    senders = ('"ann lee"@example.org', f"{'a' * 250}@example.org")
    for sender in senders * 2:
        raw = f"From: {sender}\nSubject: A parcel\nMessage-ID: <{len(sender)}{desk.ann}>\n\nWhere is it?\n"
        written = desk.incoming.folder / "tmp" / uuid4().hex
        written.write_text(raw)
        written.rename(desk.incoming.folder / "new" / written.name)
    await desk.taken()
    for sender in senders:
        (case,) = await desk.cases_of(sender)
        assert texts(case) == ["Where is it?"]
    assert desk.failed() == []


async def test_mail_that_cannot_be_read_in_time_is_set_aside(shared_address, tmp_path, caplog, monkeypatch):
    """After the second try, also if the gateway itself has ended meanwhile. The next mails are taken."""
    monkeypatch.setattr(mail_gateway, "LONGEST_PAUSE", 0.6)  # seconds, instead of 30
    caplog.set_level("INFO", "mail_gateway")
    state, new, failed = mail_gateway.State(tmp_path / "state.db"), tmp_path / "new", tmp_path / ".failed" / "new"
    new.mkdir()
    for name in ("1 ended the gateway", "2 takes too long"):
        os.mkfifo(new / name)  # nobody writes to it
    for _ in range(2):
        state.count_try("1 ended the gateway")
    sender = f"ann@{uuid4().hex[:8]}.example"
    (new / "3 of Ann").write_bytes(mail_of("Where is it?", sender).as_bytes())
    async with SupportClient(shared_address) as client:
        reader, address = mail_gateway.Reader(1.0), mail_gateway.Address("Shop", SUPPORT)
        incoming = asyncio.create_task(mail_gateway.Incoming(client, state, tmp_path, address, reader).run())
        await eventually((tmp_path / "cur" / "3 of Ann:2,S").exists, LONG)
        assert [path.name for path in new.iterdir()] == ["2 takes too long"]
        await eventually(lambda: not [*new.iterdir()], LONG)
        incoming.cancel()
        with suppress(asyncio.CancelledError):
            await incoming
    assert sorted(path.name for path in failed.iterdir()) == ["1 ended the gateway", "2 takes too long"]
    messages = [record.getMessage() for record in caplog.records]
    assert "1 ended the gateway: set aside: the gateway ended 2 times while it read the mail" in messages
    assert any(each.startswith("2 takes too long: set aside: reading it took 1 s") for each in messages)
    assert [state.count_try(path.name) for path in failed.iterdir()] == [1, 1]  # a person may try them again


async def test_mail_waits_while_no_process_can_read_it(tmp_path, caplog):
    """The mail is not at fault. It stays, and no try is counted."""
    state, mail = mail_gateway.State(tmp_path / "state.db"), tmp_path / "new" / "1 of Ann"
    mail.parent.mkdir()
    mail.write_bytes(mail_of("Where is it?", "ann@customers.example").as_bytes())
    incoming = mail_gateway.Incoming(None, state, tmp_path, mail_gateway.Address("Shop", SUPPORT))
    resource_tracker.ensure_running()  # with the interpreter
    interpreter = spawn.get_executable()
    spawn.set_executable("/bin/false")
    try:
        taking = asyncio.create_task(incoming.run())
        await eventually(lambda: caplog.records)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
    finally:
        spawn.set_executable(interpreter)
    assert "1 of Ann waits: the process that reads mails can't start" in caplog.text
    assert mail.exists()
    assert state.count_try(mail.name) == 1


async def test_files_of_a_mail_belong_to_its_message(desk):
    """More than a message takes are in further messages. An attached mail is a file, too, and so is a long text."""
    mail = mail_of("See the photos", desk.ann)
    for number in range(21):
        mail.add_attachment(bytes([number]), maintype="image", subtype="jpeg", filename=f"{number}.jpg")
    mail.add_attachment(mail_of("What I wrote before", desk.ann))
    desk.incoming.send(mail, sender=desk.ann)
    (case,) = await desk.taken()
    assert texts(case) == ["See the photos", "(more files)"]
    names = {file.id: file.filename for file in case.attachments}
    assert [[names[each] for each in message.attachment_ids] for message in case.messages] == [
        [f"{number}.jpg" for number in range(20)],
        ["20.jpg", "part-22.eml"],
    ]
    desk.send("é" * 65_001)
    _, case = await desk.taken()
    assert texts(case) == ["é" * 65_000 + "…\n[The whole text is in message.txt.]"]
    (file,) = case.attachments
    assert (file.filename, file.size_bytes) == ("message.txt", 130_002)


AUTOMATIC = [{"Auto_Submitted": "auto-replied"}, {"Auto_Submitted": "auto-generated"}, {"Precedence": "bulk"}]
AUTOMATIC += [{"Precedence": "list"}, {"X_Auto_Response_Suppress": "All"}, {"List_Id": "<news.customers.example>"}]


async def test_programs_open_no_case_and_get_no_answer(desk):
    """Two programs could answer one another for ever. In a case, staff see such a mail as a note."""
    for headers in AUTOMATIC:
        desk.send("I am away", **headers)
    desk.send("I am a copy of an answer", sender=SUPPORT)
    assert await desk.taken() == []
    assert await desk.cases_of(SUPPORT) == []

    first = desk.send("Where is it?")
    (case,) = await desk.taken()
    await desk.client.add_message(case.id, author_type="agent", message="On its way.")
    await desk.client.set_status(case.id, "resolved")
    (answer,) = await desk.sent(1)
    desk.send("I am away", In_Reply_To=answer["Message-ID"], Auto_Submitted="auto-replied")
    (case,) = await desk.taken()
    note = case.messages[-1]
    assert (case.status, note.visibility, note.author_type) == ("resolved", "internal", "bot")
    assert note.message.endswith("I am away")
    assert case.messages[0].external_id == first
    assert len(desk.outgoing.delivered()) == 1


def report_about(mail, failed="5.1.1"):
    """Return a delivery status notification about a mail, as a mail server writes it."""
    return (
        "From: Mail Delivery System <MAILER-DAEMON@relay.example>\r\nTo: support@shop.example\r\n"
        f"Subject: Undelivered Mail Returned to Sender\r\nMessage-ID: <{uuid4().hex}@relay.example>\r\n"
        "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nThe mail could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n"
        f"Final-Recipient: rfc822; {mail['To']}\r\nAction: failed\r\nStatus: {failed}\r\n"
        "Diagnostic-Code: smtp; 550 no such mailbox\r\n"
        f"\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {mail['Message-ID']}\r\n\r\n--b--\r\n"
    ).encode()


async def test_bounce_is_a_note_in_its_case(desk):
    """Staff learn which answer the customer did not get. A report about a mail of others changes nothing."""
    desk.send("Where is it?")
    (case,) = await desk.taken()
    answer = await desk.client.add_message(case.id, author_type="agent", message="On its way.")
    (mail,) = await desk.sent(1)
    report = report_about(mail)
    desk.incoming.send(report)
    desk.incoming.send(report)
    desk.incoming.send(report_about({"To": desk.ann, "Message-ID": f"<{uuid4()}.{case.id}@shop.example>"}))
    desk.incoming.send(report_about({"To": desk.ann, "Message-ID": "<other@elsewhere.example>"}))
    (case,) = await desk.taken()
    (note,) = [message for message in case.messages if message.visibility == "internal"]
    assert answer.id in note.message
    assert note.message.endswith(f"failed {desk.ann.lower()} 5.1.1 550 no such mailbox")
    assert not desk.failed()


async def test_answer_that_can_not_be_sent_holds_up_no_other_one(desk):
    """A refusal is a note in its case. Answers to a full mailbox wait, also when the gateway is started again."""
    nobody, full = (f"{name}@{uuid4().hex[:8]}.example" for name in ("nobody", "full"))
    desk.send("Where is it?", sender=nobody)
    desk.send("Where is it?", sender=full)
    desk.send("And mine?")
    (case,) = await desk.taken()
    (refused,), (waiting,) = [await desk.cases_of(each) for each in (nobody, full)]
    for each in (refused, waiting):
        await desk.client.add_message(each.id, author_type="agent", message="On its way.")
    for number in range(2):
        await desk.client.add_message(case.id, author_type="agent", message=f"Yours, too: {number}")
        assert (await desk.sent(number + 1))[number]["To"] == desk.ann.lower()
        desk.kill()
        await eventually(lambda number=number: desk.starts == number + 2, LONG)
    assert texts(await desk.client.get_case(waiting.id)) == ["Where is it?", "On its way."]
    note = (await desk.client.get_case(refused.id)).messages[-1]
    assert (note.visibility, note.message.rpartition(": ")[2]) == ("internal", "550 5.1.1 there is no such mailbox")


@pytest.fixture
async def outgoing(shared_address, tmp_path):
    """What sends answers, without the process, and with no patience; and its mail server."""
    with MailServer(tmp_path / "server") as server:
        async with SupportClient(shared_address) as client:
            state = mail_gateway.State(tmp_path / "state.db")
            address, smtp = mail_gateway.Address("Shop", SUPPORT), ("127.0.0.1", server.port)
            outgoing = mail_gateway.Outgoing(client, state, address, smtp, timedelta())
            running = asyncio.create_task(outgoing.run())
            await eventually(lambda: state.position() != "none", LONG)
            yield client, server
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def equals(read, expected):
    return await read() == expected


async def open_mail_case(client, sender):
    """Open a case with a mail, as the gateway does."""
    customer = mail_gateway.customer_id_of(sender)
    case = await client.open_case(subject="A parcel", channel="email", customer_id=customer)
    origin = {"mail": {"from": sender, "messageId": f"<{uuid4().hex}@customers.example>"}}
    await client.add_message(case.id, author_type="customer", message="Where is it?", metadata=origin)
    return case


async def test_answer_that_can_never_be_sent_becomes_a_note(outgoing, monkeypatch):
    """Whatever the reason is, the gateway gives up after a time, and the next answers go out."""
    client, server = outgoing
    full, lost, ann = [
        await open_mail_case(client, f"{name}@{uuid4().hex[:8]}.example") for name in ("full", "lost", "ann")
    ]
    file = await client.upload(lost.id, b"1", filename="a.txt", content_type="text/plain", staged=True)
    monkeypatch.setattr(client, "download", lambda _file: 1 / 0)
    await client.add_message(full.id, author_type="agent", message="Yes.")
    await client.add_message(lost.id, author_type="agent", message="Look.", attachment_ids=[file.id])
    await client.add_message(ann.id, author_type="agent", message="Here.")

    async def notes():
        messages = [(await client.get_case(case.id)).messages[-1] for case in (full, lost)]
        return [each.message.rpartition(": ")[2] for each in messages if each.visibility == "internal"]

    reasons = ["452 4.2.2 the mailbox is full", "ZeroDivisionError('division by zero')"]
    await eventually(lambda: equals(notes, reasons), LONG)
    await eventually(server.delivered, LONG)
    assert [mail.get_body().get_content().strip() for mail in server.delivered()] == ["Here."]


async def test_reference_to_the_case_of_another_customer_gives_no_access(desk):
    """The mail opens a case of its sender, linked with the other one; later mails of the sender join that case."""
    first = desk.send("Where is it?")
    (case,) = await desk.taken()
    await desk.client.add_message(case.id, author_type="agent", message="On its way.")
    (answer,) = await desk.sent(1)
    eve = f"eve.{uuid4().hex[:8]}@customers.example"
    thread = {"In_Reply_To": answer["Message-ID"], "References": f"{first} {answer['Message-ID']}"}
    mine = desk.send("Send it to me", sender=eve, **thread)
    desk.send("Now", sender=eve, In_Reply_To=mine, References=f"{thread['References']} {mine}")
    desk.send("By the subject", sender=eve, Subject=answer["Subject"])
    desk.send("By the first mail", sender=eve, In_Reply_To=first)
    (case,) = await desk.taken()
    assert texts(case) == ["Where is it?", "On its way."]
    eves = await desk.cases_of(eve)
    assert [texts(each) for each in eves] == [["Send it to me", "Now", "By the first mail"], ["By the subject"]]
    assert {link.case_id for each in eves for link in each.links} == {case.id}
    await desk.client.add_message(eves[0].id, author_type="agent", message="No.")
    assert (await desk.sent(2))[1]["To"] == eve


async def test_mails_to_a_closed_case_are_one_related_case(desk):
    """Until the related case is closed as well. Each has a link to the one before."""
    first = desk.send("Where is it?")
    (case,) = await desk.taken()
    answer = await desk.client.add_message(case.id, author_type="agent", message="On its way.")
    await desk.client.close_case(case.id, message="Delivered.")
    mail, last = await desk.sent(2)
    desk.send("It is broken", In_Reply_To=last["Message-ID"])
    desk.send("The box, too", In_Reply_To=first, References=first)
    desk.send("Hello?", In_Reply_To=mail["Message-ID"], References=f"{first} {mail['Message-ID']}")
    desk.send("Again", Subject=last["Subject"])
    closed, new = await desk.taken()
    assert (closed.messages[1].id, texts(closed)) == (answer.id, ["Where is it?", "On its way.", "Delivered."])
    assert texts(new) == ["It is broken", "The box, too", "Hello?", "Again"]
    assert [link.case_id for link in new.links] == [closed.id]
    await desk.client.close_case(new.id)
    for text in ("Still broken", "Really"):
        desk.send(text, In_Reply_To=last["Message-ID"])
    *_, third = await desk.taken()
    assert (texts(third), [link.case_id for link in third.links]) == (["Still broken", "Really"], [new.id])


async def test_merged_cases_are_one_thread(desk):
    """What is written to the duplicate arrives in the original, and the answer goes on with its thread."""
    desk.send("Where is it?")
    (original,) = await desk.taken()
    desk.send("A second thread")
    *_, duplicate = await desk.taken()
    await desk.client.add_message(duplicate.id, author_type="agent", message="Which parcel?")
    (question,) = await desk.sent(1)
    await desk.client.merge_case(duplicate.id, original.id)
    await desk.client.add_message(duplicate.id, author_type="agent", message="A new one is on its way.")
    mail = (await desk.sent(2))[1]
    assert mail["To"] == desk.ann.lower()
    assert {duplicate.messages[0].external_id, question["Message-ID"]} <= set(mail["References"].split())
    desk.send("Thanks", In_Reply_To=duplicate.messages[0].external_id)
    desk.send("The blue one", In_Reply_To=question["Message-ID"])
    await desk.taken()
    assert texts(await desk.client.get_case(original.id))[-2:] == ["Thanks", "The blue one"]
    assert not desk.failed()


async def test_mail_follows_the_messages_of_its_thread_after_a_split(desk):
    """Answers keep their Message-ID, reports of mail servers find the message, and repeats change nothing."""
    first = desk.send("Where is it?")
    second = desk.send("My other parcel is broken", In_Reply_To=first, References=first)
    (case,) = await desk.taken()
    sorry = await desk.client.add_message(case.id, author_type="agent", message="We are sorry.")
    (mail,) = await desk.sent(1)
    moved = await desk.client.split_case(case.id, [case.messages[1].id, sorry.id], "Broken")
    thread = f"{first} {second} {mail['Message-ID']}"
    desk.send("Keep it?", In_Reply_To=mail["Message-ID"], References=thread)
    desk.send("A photo follows", In_Reply_To=second, References=f"{first} {second}")
    desk.send("Any news?", In_Reply_To=first, References=first)
    desk.incoming.send(mail_of("My other parcel is broken", desk.ann, Message_ID=second, In_Reply_To=first))
    desk.incoming.send(report_about(mail))
    case, moved = await desk.taken()
    assert texts(case) == ["Where is it?", "Any news?"]
    conversation = ["My other parcel is broken", "We are sorry.", "Keep it?", "A photo follows"]
    assert texts(moved)[:-1] == conversation
    assert sorry.id in texts(moved)[-1]
    await desk.client.add_message(moved.id, author_type="agent", message="Yes.")
    answer = (await desk.sent(2))[1]
    assert answer["References"].split()[:2] == [second, mail["Message-ID"]]
    only_answer = await desk.client.split_case(moved.id, [sorry.id], "What we said")
    await desk.client.add_message(only_answer.id, author_type="agent", message="Did you get it?")
    assert (await desk.sent(3))[2]["To"] == desk.ann.lower()
    assert not desk.failed()


@pytest.fixture
async def killed_desk(migrated_folder):
    """A desk at a service that requires tokens and keeps the address when it is killed; gives both."""
    token = write_token(migrated_folder / "tokens.json", "mail", role="supervisor")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    tokens = {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(migrated_folder / "tokens.json")}
    limits = dict.fromkeys(("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS"), "off")
    variables = {"SUPPORT_PORT": str(port), "SUPPORT_LOG_LEVEL": "error", **tokens, **limits}
    kill = asyncio.Event()

    async def serve():
        while True:
            kill.clear()
            async with running("serve", cwd=migrated_folder, **variables) as service:
                await service.wait_until_ready(address)
                await kill.wait()

    serving = asyncio.create_task(serve())
    async with Desk(address, migrated_folder, token).open() as desk:
        yield desk, kill.set
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


class Load:
    """People who write mails, and agents who answer, at random times; what each mail and answer has to be."""

    def __init__(self, desk):
        self._desk = desk
        self._draw = random.Random(33)
        self.people = [f"person-{number}@customers.example" for number in range(4)]
        self.mails = {}  # who wrote which text, by Message-ID
        self.threads = {}  # the Message-ID of the first mail of each person
        self.answers = set()  # Message-IDs

    async def write(self):
        """Send mails: each person has one thread."""
        for number in range(MAILS):
            person = self._draw.choice(self.people)
            headers = {"In_Reply_To": self.threads[person]} if person in self.threads else {}
            sent = self._desk.send(f"mail {number}", sender=person, **headers)
            self.mails[sent] = (person, f"mail {number}")
            self.threads.setdefault(person, sent)
            await asyncio.sleep(self._draw.uniform(0, 0.1))

    async def answer(self):
        """Answer cases, each time with an internal note before."""
        for number in count():
            with suppress(SupportError):  # the service may be away for longer than the client is patient
                cases = [case async for case in self._desk.client.list_cases(status=["open"])]
                if cases:
                    await self._answer_case(self._draw.choice(cases).id, number)
            if len(self.answers) == MAILS:
                break
            await asyncio.sleep(self._draw.uniform(0, 0.1))

    async def _answer_case(self, case_id, number):
        write = partial(self._desk.client.add_message, case_id, author_type="agent")
        await write(message="a note", visibility="internal")
        written = await write(message=f"answer {number}")
        self.answers.add(f"<{written.id}.{case_id}@shop.example>")

    async def break_things(self, kill_service):
        """Kill the gateway and the service in turn, while the mail server refuses mails for the moment."""
        for number in range(KILLS):
            await asyncio.sleep(self._draw.uniform(0.3, 1.5))
            self._desk.outgoing.refuse_for_now()
            kill_service() if number % 2 else self._desk.kill()
            await asyncio.sleep(self._draw.uniform(0.1, 0.5))
            self._desk.outgoing.take_again()


@pytest.mark.long
async def test_kills_lose_no_mail_and_double_no_message(killed_desk):
    """The gateway and the service end at any moment: each mail is one message, in the case of its thread.

    Each answer is sent; a mail that is sent again has the Message-ID that it had before.
    """
    desk, kill_service = killed_desk
    load = Load(desk)
    await asyncio.gather(load.write(), load.answer(), load.break_things(kill_service))
    await desk.taken()
    await eventually(lambda: load.answers <= {mail["Message-ID"] for mail in desk.outgoing.delivered()}, LONG)
    cases = {person: await desk.cases_of(person) for person in load.threads}
    assert {person: len(each) for person, each in cases.items()} == dict.fromkeys(load.threads, 1)
    stored = [(person, message) for person, (case,) in cases.items() for message in case.messages if message.metadata]
    assert Counter(message.external_id for _, message in stored) == Counter([*load.mails])
    assert {message.external_id: (person, message.message) for person, message in stored} == load.mails
    mails = desk.outgoing.delivered()
    ids = Counter(mail["Message-ID"] for mail in mails)
    assert load.answers <= ids.keys()
    assert not [mail for mail in mails if "note" in mail.get_body().get_content()]
    assert not desk.failed()
    print(  # noqa: T201 - the result of the long form
        f"\n{len(load.mails)} mails, {len(load.answers)} answers, {KILLS} kills: none lost, none doubled, "
        f"{ids.total() - len(ids)} mails sent again with their Message-ID"
    )
