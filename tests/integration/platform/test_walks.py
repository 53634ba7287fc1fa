"""How many files and functions of the service a request passes, as a reader would: with PostgreSQL and Redis."""

import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

import support_service
from tests.support.calls import form, open_case

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
SOURCE = str(Path(support_service.__file__).parent)
ALLOWED = tomllib.loads(Path("tests/budget.toml").read_text())["walks"]
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>")  # functions before Python 3.12 only
REPEATS = 20  # what runs in each of them belongs to the request, and not to a job in the background


@contextmanager
def traced():
    """Yield a set that gets the code of each function of the service that runs meanwhile."""
    found = set()

    def note(frame, event, _argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE) and code.co_name not in COMPREHENSIONS:
            found.add(code)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


@pytest.fixture
async def walks(upstream_services, make_client, redis):
    """A request for each walk, to a service with both servers."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    path = f"/support/cases/{case['id']}"
    message = {"authorType": "agent", "message": "It is on its way."}
    return {
        "cached read": lambda: client.get(path, params={"includeTimeline": "true"}),
        "cold read": lambda: client.post(f"{path}/timeline/refresh"),
        "message": lambda: client.post(f"{path}/messages", json=message),
        "upload": lambda: client.post(f"{path}/attachments", data=form(b"a")),
        "list with q": lambda: client.get("/support/cases", params={"q": "parcel"}),
    }


async def test_no_request_passes_more_files_and_functions_than_its_budget(walks, subtests):
    """A reader of a walk has to open the files."""
    for name, request in walks.items():
        await (await request()).read()  # the first one imports modules and prepares statements
        rounds = []
        for _ in range(REPEATS):
            with traced() as found:
                response = await request()
                await response.read()
            rounds.append(found)
        functions = set.intersection(*rounds)
        files = {code.co_filename for code in functions}
        print(f"{name}: {len(files)} files, {len(functions)} functions")  # noqa: T201 - for `pytest -s`
        with subtests.test(name):
            advice = "Pass fewer layers, or inline a function with one caller"
            assert len(files) <= ALLOWED[name]["files"], f"{advice}: {sorted(files)}"
            assert len(functions) <= ALLOWED[name]["functions"], advice
