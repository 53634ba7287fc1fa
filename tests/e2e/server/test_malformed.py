"""What can't be read as HTTP is never quoted in the log of a service."""

import json

import pytest

from tests.support.process import running
from tests.support.raw_requests import MALFORMED, SECRET, TOO_LARGE, send_raw
from tests.support.servers import free_port

CHUNKED = (
    b"POST /support/cases HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.usefixtures("processes")
async def test_malformed_requests_are_logged_in_few_lines_without_their_content(tmp_path):
    """The level is INFO."""
    port = free_port()
    async with running("serve", cwd=tmp_path, SUPPORT_PORT=str(port), SUPPORT_LOG_LEVEL="debug") as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        large = [raw.encode() for raw, *_ in TOO_LARGE.values()]
        for raw in (*MALFORMED.values(), *large, CHUNKED + f"{SECRET}\r\n".encode()):
            for _ in range(10):
                assert (await send_raw("127.0.0.1", port, raw))[0] in (400, 414, 431)
        service.stop()
        status, _, log = await service.wait_for_exit()
    assert status == 0
    assert SECRET not in log
    lines = [json.loads(line) for line in log.splitlines()]
    refused = [line for line in lines if line["logger"] == "support_service.refused"]
    assert 1 <= len(refused) <= 2
    assert {line["level"] for line in refused} == {"INFO"}
    assert not [line for line in lines if line["level"] == "ERROR"]
