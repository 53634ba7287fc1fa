"""What the mail gateway of the documentation reads from mails, as programs and mail servers write them."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each_row
from tests.support.mail import mail_gateway

HEAD = b"From: Ann <ann@customers.example>\r\nMessage-ID: <1@customers.example>\r\nSubject: A parcel\r\n"


def read(rest, head=HEAD):
    return mail_gateway.read_mail(head + rest)


PLAIN = b"Content-Type: text/plain; charset="
QUOTED = b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=B6=C3=9Fe=\r\n 40"
PAGE = (
    b"Content-Type: text/html\r\n\r\n<html><head><title>T</title><style>p {}</style></head><body><p>Hello&nbsp;&amp;"
    b" good\r\nday</p><script>x()</script><ul><li>one<li>two</ul>Bye<br>Ann</body></html>"
)
ALTERNATIVES = (
    b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n'
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n--b--\r\n"
)


@each_row(
    ("rest", "text"),
    [
        pytest.param(PLAIN + b"iso-8859-1\r\n\r\nGr\xf6\xdfe 40", "Größe 40", id="latin-1"),
        pytest.param(PLAIN + b"utf-8" + QUOTED, "Größe 40", id="quoted-printable"),
        pytest.param(PLAIN + b"gb2312\r\nContent-Transfer-Encoding: base64\r\n\r\nxOO6w6GjDQo=", "你好。", id="base64"),
        pytest.param(PLAIN + b"no-such-charset\r\n\r\nGr\xc3\xb6\xc3\x9fe", "Größe", id="unknown charset"),
        pytest.param(PLAIN + b"utf-8\r\n\r\nbad \xff byte\0", "bad \ufffd byte", id="damaged"),
        pytest.param(b"\r\n   \r\n", "(no text)", id="empty"),
        pytest.param(PAGE, "Hello & good day\n\n- one\n- two\nBye\nAnn", id="html"),
        pytest.param(ALTERNATIVES, "plain", id="alternatives"),
    ],
)
def test_text_of_a_mail_is_read_in_its_charset(rest, text):
    """HTML becomes text; a part that can't be read is read as far as possible."""
    assert (read(rest).text, read(rest).files) == (text, [])


def test_thread_is_read_from_both_headers():
    """The newest mail comes first; damaged ids are left out."""
    mail = read(b"In-Reply-To: <3@x>\r\nReferences: <1@x> broken <2@x>\r\n <3@x>\r\n\r\nText")
    assert mail.references == ["<3@x>", "<2@x>", "<1@x>"]
    assert read(b"In-Reply-To: <4@x> (a comment)\r\nReferences: <1@x>\r\n\r\n").references == ["<4@x>", "<1@x>"]


def test_mail_without_a_message_id_has_the_same_one_each_time():
    """A repeat of the mail server is recognized by its bytes."""
    first, again = (read(b"\r\nText", b"From: ann@customers.example\r\n") for _ in range(2))
    assert first.id == again.id != read(b"\r\nOther", b"From: ann@customers.example\r\n").id
    assert (first.subject, first.sent_at) == ("(no subject)", None)


def test_impossible_date_is_left_out():
    """The service refuses dates before 1970 and in the future; a date without a zone may be hours off."""
    impossible = ("Thu, 1 Jan 1960 00:00:00 +0000", "Fri, 1 Jan 2100 00:00:00 +0000", "yesterday")
    for date in (*impossible, "1 Jan 2026 10:00:00 -0000"):
        assert read(b"Date: " + date.encode() + b"\r\n\r\nText").sent_at is None


@given(st.binary(max_size=300))
@example(b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n--b')
@example(b"Content-Type: multipart/report; report-type=delivery-status\r\n\r\n")
@example(b"Content-Type: text/plain; charset*=utf-8''%FF\r\nFrom: \xff\r\nSubject: =?utf-8?q?=\r\n\r\n")
@example(b"From: [\r\nMessage-ID: <\r\nDate: (\r\nContent-Disposition: ;;;\r\n\r\n")
def test_every_sequence_of_bytes_is_a_mail(rest):
    """Whatever arrives becomes text that the service takes, unless it has a second `From` or a NUL in its headers."""
    with suppress(mail_gateway.Unclear):
        mail = read(rest)
        assert mail.text.encode()
        assert mail.subject.encode()


@each_row(
    ("value", "name", "address"),
    [
        (b"ann@a.example", None, "ann@a.example"),
        (b"<Ann@A.example>", None, "ann@a.example"),
        (b"Ann Lee <ann@a.example>", "Ann Lee", "ann@a.example"),
        (b'"Lee, Ann \\"A\\"" <ann@a.example>', 'Lee, Ann "A"', "ann@a.example"),
        (b"=?utf-8?q?Ann_L=C3=A9?=\r\n <ann@a.example>", "Ann L\u00e9", "ann@a.example"),
        ("Ann L\u00e9 <ann@a.example>".encode(), "Ann L\u00e9", "ann@a.example"),
        (b"=?no-such?q?Ann?= <ann@a.example>", "=?no-such?q?Ann?=", "ann@a.example"),
        (b"ann@a.example (Ann Lee)", "Ann Lee", "ann@a.example"),
        (b"Ann (Lee) <ann@a.example> (home)", "Ann (Lee)", "ann@a.example"),
        (b'"ann lee"@a.example', None, '"ann lee"@a.example'),
        ("ann@b\u00fccher.example".encode(), None, "ann@b\u00fccher.example"),
        (b"ann@xn--bcher-kva.example", None, "ann@xn--bcher-kva.example"),
        # A name that could be taken for an address is left out.
        (b'"victim@a.example" <eve@b.example>', None, "eve@b.example"),
        (b"=?utf-8?q?victim=40a.example?= <eve@b.example>", None, "eve@b.example"),
    ],
)
def test_sender_is_the_one_mailbox_in_from(value, name, address):
    mail = read(b"\r\nText", b"From: " + value + b"\r\n")
    assert (mail.sender_name, mail.sender) == (name, address)


@each_row(
    "head",
    [
        *(b"Subject: none", b"From:", b"From: <>", b"From: root", b"From: ann@", b"From: @a.example"),
        b"From: victim@a.example <eve@b.example>",
        b"From: <victim@a.example> <eve@b.example>",
        *(b"From: victim@a.example, eve@b.example", b"From: victim@a.example eve@b.example"),
        b"From: eve@b.example@a.example",
        b"From: Lee, Ann <ann@a.example>",
        *(b"From: people: ann@a.example;", b"From: people:;"),
        b"From: ann@a.example\r\nFrom: eve@b.example",
        b"From : victim@a.example\r\nFrom: eve@b.example",
        b"FROM\t: victim@a.example\r\nFrom: eve@b.example",
        b"no header\r\nFrom: victim@a.example",
        b"From: eve@b.example\r\nno header\r\nFrom: victim@a.example",
        b"From: <@b.example,@c.example:victim@a.example>",
        b"From: (<victim@a.example>) <eve@b.example>",
        *(b"From: Ann ((a) b) <ann@a.example>", b"From: ann(a)@a.example", b"From: ann @ a.example"),
        b"From: ann@a.\r\n example",
        b"From: victim@a.example\0 <eve@b.example>",
        b"Subject: \0\r\nFrom: ann@a.example",
        b"From: victim@a.example\rX: <eve@b.example>",
        *(b"From: =?utf-8?q?victim?=@a.example", b"From: victim@=?utf-8?q?a.example?="),
        b"From: =?utf-8?q?victim=40a.example?=",
        b"From: =?utf-8?q?<victim=40a.example>?= eve@b.example",
        *(b'From: "victim@a.example"@b.example', b'From: "victim" @a.example'),
        b'From: "victim@a.example <eve@b.example>',
        *(b"From: ann@[127.0.0.1]", b"From: ann..lee@a.example", b"From: victim\xff@a.example"),
        "From: \u212aim@a.example".encode(),  # the Kelvin sign, in lower case k
        "From: ann@a\u3002example".encode(),  # a full stop for some programs
        "From: ann\u200b@a.example".encode(),
        b"From: " + b"," * 50_000 + b"ann@a.example",
        b"From: " + b"a " * 5_000 + b"<ann@a.example>",
        b"From: " + b"(" * 50_000,
        b"From: victim@a.example" + b" " * 50_000 + b"<eve@b.example>",
    ],
)
def test_mail_without_one_clear_sender_is_not_taken(head):
    """Another program, such as the mail server that checks senders, may read another sender in it."""
    with pytest.raises(mail_gateway.Unclear):
        read(b"\r\n\r\nText", head)


def test_bounce_needs_no_sender():
    """Mail servers write what they like there."""
    kind = b"Content-Type: multipart/report; report-type=delivery-status\r\n\r\n"
    assert read(kind, b"From: MAILER-DAEMON\r\n").bounce


def test_long_threads_are_bounded():
    """The first id names the thread. Long HTML is a file: the parser of Python takes minutes for some pages."""
    ids = [f"<{number}@x>" for number in range(10_000)]
    mail = read(b"References: " + "\r\n ".join(ids).encode() + b"\r\n\r\nText")
    assert mail.references == [*reversed(ids[-20:]), ids[0]]
    mail = read(b"Content-Type: text/html\r\n\r\n" + b"<!--" * 100_000)
    assert mail.text == "(no text)"
    assert [(file.name, len(file.content)) for file in mail.files] == [("part-1.html", 400_000)]


def test_mail_with_very_many_files_is_not_taken():
    """Each file is an upload."""
    with pytest.raises(mail_gateway.Unclear, match="201 files"):
        read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nContent-Type: image/png\r\n\r\n" * 201)


HARD = {
    "commas in a header": b"To: " + b"," * 50_000 + b"\r\n\r\n",
    "quotes in a type": b"Content-Type: " + b'"' * 50_000 + b"\r\n\r\n",
    "a parameter in parts": b"Content-Disposition: attachment"
    + b"".join(b";\r\n filename*%d*=a" % number for number in range(5_000))
    + b"\r\n\r\n",
    "parts of a parameter that are missing": b"Content-Type: text/plain; charset*999999999*=utf-8''x\r\n\r\n",
    "a charset that is a codec of bytes": b"Content-Type: text/plain; charset=rot13\r\n\r\n",
    "a charset with a NUL": b'Content-Type: text/plain; charset="utf-8\0"\r\n\r\n',
    "encoded words": b"Subject: " + b"=?utf-8?q?a?= " * 5_000 + b"\r\n\r\n",
    "comments": b"Message-ID: " + b"(" * 5_000 + b"\r\nDate: " + b"(" * 5_000 + b"\r\n\r\n",
    "damaged base64": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n====A",
    "a long Message-ID": b"Message-ID: <" + b"a" * 50_000 + b"@x>\r\n\r\n",
}


@each_row("rest", HARD.values(), ids=HARD.keys())
def test_hostile_headers_do_not_hold_up_the_gateway(rest):
    """Such a mail is read as far as possible, or set aside."""
    with suppress(mail_gateway.Unclear):
        assert read(rest, b"From: ann@a.example\r\n").sender == "ann@a.example"
