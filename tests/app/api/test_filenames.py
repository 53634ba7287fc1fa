"""Names of uploaded files: what the client sends, what is shown, and what is stored."""

from urllib.parse import unquote

import aiohttp
import pytest
import pytest_asyncio

from tests.support.calls import expect_json, open_case, stored_files
from tests.support.each import each_row


@pytest.fixture(scope="module")
def attachment_dir(tmp_path_factory):
    """The directory in which the service of this module stores attachments."""
    return tmp_path_factory.mktemp("attachments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_shared_client, attachment_dir):
    """A client of one service for all tests of this module."""
    return await make_shared_client(SUPPORT_ATTACHMENT_DIR=str(attachment_dir))


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    """An open case."""
    return await open_case(client)


async def test_percent_encoded_filename_is_decoded(client, case):
    """Some clients, such as aiohttp, percent-encode characters beyond ASCII."""
    document = aiohttp.FormData()  # quotes the filename
    document.add_field("file", b"hello", filename="đơn hàng 100%.txt", content_type="text/plain")
    async with client.post(f"/support/cases/{case['id']}/attachments", data=document) as response:
        assert (await response.json())["filename"] == "đơn hàng 100%.txt"


FILENAME_IS_SHOWN_WITHOUT_PATH = [
    ("../../etc/passwd", "passwd"),
    ("..\\..\\boot.ini", "boot.ini"),
    ("C:\\Users\\lan\\hoá đơn.pdf", "hoá đơn.pdf"),
    ("/etc/shadow", "shadow"),
    ("a\0b.txt", "ab.txt"),
    ("a\x1b[31mb\u202e\u200b.txt", "a[31mb.txt"),
    ("Đơn hàng số 1.txt", "Đơn hàng số 1.txt"),
    ("x" * 400, "x" * 255),
    ("đ" * 400, "đ" * 127),
    ("", "file"),
    (".", "file"),
    ("..", "file"),
    ("   ", "file"),
    ('quo"te%.txt', 'quo"te%.txt'),
    ("..hidden", "..hidden"),
    ("{3f2504e0}.pdf", "{3f2504e0}.pdf"),
]


@each_row("sent, shown", FILENAME_IS_SHOWN_WITHOUT_PATH)
async def test_filename_is_shown_without_path_and_control_characters(client, case, attachment_dir, sent, shown):
    """The file is stored under a generated key, whatever its name."""
    body = _form_with_filename(sent)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    before = stored_files(attachment_dir)
    answer = await expect_json(client.post(f"/support/cases/{case['id']}/attachments", data=body, headers=headers), 201)
    assert answer["filename"] == shown
    (path,) = {*stored_files(attachment_dir)} - {*before}
    assert len(path.relative_to(attachment_dir).parts) == 2
    assert path.name.isalnum()
    async with client.get(answer["uri"]) as response:
        assert await response.read() == b"hello"
        disposition = response.headers["Content-Disposition"]
        assert unquote(disposition.rpartition("filename*=UTF-8''")[2]) == shown


def _form_with_filename(filename: str) -> bytes:
    """Return a form with this unencoded filename."""
    name = filename.replace("\\", "\\\\").replace('"', '\\"') if "\\" in filename or '"' in filename else filename
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + b"hello\r\n--b--\r\n"
