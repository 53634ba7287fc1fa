"""What the mail gateway of the documentation reads from mails, as programs and mail servers write them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "date",
    ["Thu, 1 Jan 1960 00:00:00 +0000", "Fri, 1 Jan 2100 00:00:00 +0000", "yesterday", "1 Jan 2026 10:00:00 -0000"],
)
def test_impossible_date_is_left_out(date):
    """The service refuses dates before 1970 and in the future; a date without a zone may be hours off."""
    assert read(b"Date: " + date.encode() + b"\r\n\r\nText").sent_at is None


@given(st.binary(max_size=300))
@example(b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n--b')
@example(b"Content-Type: multipart/report; report-type=delivery-status\r\n\r\n")
@example(b"Content-Type: text/plain; charset*=utf-8''%FF\r\nFrom: \xff\r\nSubject: =?utf-8?q?=\r\n\r\n")
@example(b"From: [\r\nMessage-ID: <\r\nDate: (\r\nContent-Disposition: ;;;\r\n\r\n")
def test_every_sequence_of_bytes_is_a_mail(rest):
    """Whatever arrives becomes text that the service takes."""
    mail = read(rest)
    assert mail.text.encode()
    assert mail.subject.encode()
