"""Pages of the case list, while cases are opened and changed between them, compared with a simple model."""

import random
from dataclasses import dataclass, field

import pytest

from support_service.cases.model.requests import CaseChange, CaseQuery, NewCase, NewMessage
from support_service.cases.service import CaseService
from support_service.core.domain.principals import SYSTEM
from support_service.core.search_words import matches_query, parse_search_query, search_text
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import recorder

pytestmark = both_databases
WORDS = ("parcel", "late", "letter", "lost", "Đơn", "hàng")
QUERIES = (None, "parcel", "lat", '"late letter"', "don hang", "lost parcel", "nothing")
STEPS = 60


@dataclass
class Model:
    """What is stored: the subject and the messages of each case, by id, in the order of opening."""

    cases: dict[str, list[str]] = field(default_factory=dict)

    def matching(self, q):
        """Return the ids of the cases with a text that matches, newest first."""
        words = parse_search_query(q) if q is not None else None
        return [
            case
            for case, texts in reversed(self.cases.items())
            if words is None or any(matches_query(search_text(text), words) for text in texts)
        ]


def text(choice):
    """Return a few words."""
    return " ".join(choice.choices(WORDS, k=3))


async def change(service, model, choice):
    """Open a case, add a message to one, or change the subject of one."""
    kind = choice.choice(("open", "message", "subject"))
    if kind == "open" or not model.cases:
        subject = text(choice)
        case = await service.open_case(SYSTEM_ORIGIN, NewCase(subject=subject, channel="email"))
        model.cases[case.id] = [subject]
        return
    case = choice.choice(list(model.cases))
    words = text(choice)
    if kind == "message":
        new = NewMessage.model_validate({"authorType": "agent", "message": words})
        await service.add_message(SYSTEM_ORIGIN, case, new)
        model.cases[case].append(words)
    else:
        await service.change_case(SYSTEM_ORIGIN, case, CaseChange(subject=words))
        model.cases[case][0] = words


@pytest.mark.parametrize("q", QUERIES)
async def test_pages_hold_what_matches_throughout_once_and_nothing_else(database, instruments, q):
    """A case that matches before, during and after is on one page; one that never matches is on none; newest first."""
    choice = random.Random(f"{q}")
    service, model = CaseService(database, recorder(database, instruments)), Model()
    for _ in range(STEPS):
        await change(service, model, choice)
    order = list(model.cases)
    always = ever = set(model.matching(q))
    newest, found, cursor = set(order), [], None
    while True:
        page = await service.list_cases(SYSTEM, CaseQuery(q=q, limit=choice.randint(1, 4), cursor=cursor), database)
        found += [case.id for case in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        for _ in range(choice.randint(0, 3)):
            await change(service, model, choice)
            now = set(model.matching(q))
            always, ever = always & now, ever | now
    assert len(found) == len(set(found))
    assert always <= set(found) <= ever & newest
    assert found == sorted(found, key=order.index, reverse=True)
    page = await service.list_cases(SYSTEM, CaseQuery(q=q, limit=200), database)
    assert [case.id for case in page.items] == model.matching(q)
