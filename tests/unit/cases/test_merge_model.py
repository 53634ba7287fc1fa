"""Merges, their undoing, splits and messages in any order, against a model in memory that predicts what is read."""

import asyncio
import json
import shutil
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from support_service.cases.links import LinkService
from support_service.cases.model.requests import NewCase, NewMessage, Split, StatusChange
from support_service.cases.service import CaseService
from support_service.cases.splitting import CaseSplitter
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, NotFound, ValidationFailed
from support_service.platform.database.opening import create_database
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.support.cases import recorder
from tests.support.examples import examples
from tests.support.sessions import in_thread
from tests.support.timings import PATIENT_DATABASE

CUSTOMERS = ("c-1", "c-2")
PLACES = st.sampled_from(range(30))


@dataclass
class ModelCase:
    """What the model knows of a case."""

    id: str
    customer: str
    texts: list[str] = field(default_factory=list)
    notes: set[str] = field(default_factory=set)
    original: "ModelCase | None" = None
    status: str = "open"
    former: str = "open"

    def arrival(self):
        """Return the case in which a public message for this one arrives."""
        end = self
        while end.status == "closed" and end.original:
            end = end.original
        return end if end.customer == self.customer else self

    def chain(self):
        """Return the case and what it is a duplicate of, directly or by others."""
        return [self, *(self.original.chain() if self.original else [])]


class MergeMachine(RuleBasedStateMachine):
    """Changes cases of two customers, and reads each case after each step, as staff and as its customer."""

    def __init__(self, url, instruments):
        super().__init__()
        self._runner = asyncio.Runner()
        self._database = create_database(url, timings=PATIENT_DATABASE)
        changes = recorder(self._database, instruments)
        self._service = CaseService(self._database, changes)
        self._links = LinkService(self._database, changes)
        self._splitter = CaseSplitter(self._database, changes)
        self._runner.run(self._database.open())
        self._cases, self._order, self._ids = [], [], {}

    @initialize()
    def open_cases(self):
        for number in range(5):
            self.open(CUSTOMERS[number % 3 == 2])

    @rule(customer=st.sampled_from(CUSTOMERS))
    def open(self, customer):
        if len(self._cases) < 7:
            new = NewCase(subject="A", channel="email", customerId=customer)
            self._cases.append(ModelCase(self._run(self._service.open_case(SYSTEM_ORIGIN, new)).id, customer))
            self.write(len(self._cases) - 1, internal=False)

    @rule(place=PLACES, internal=st.booleans())
    def write(self, place, internal):
        case, text = self._pick(place), f"text {len(self._order)}"
        visibility = "internal" if internal else "public"
        new = NewMessage(authorType="agent", message=text, visibility=visibility)
        target = case if internal else case.arrival()
        message = self._run(self._service.add_message(SYSTEM_ORIGIN, case.id, new))
        assert message.ticket_id == target.id
        self._add(target, text, message, internal=internal)

    @rule(place=PLACES)
    def write_as_customer(self, place):
        """It opens a resolved case again, and a closed one refuses it."""
        case, text = self._pick(place), f"text {len(self._order)}"
        origin = WriteOrigin(Principal("customer", "customer", case.customer))
        target = case.arrival()
        sent = self._service.add_message(origin, case.id, NewMessage(authorType="customer", message=text))
        if target.status == "closed":
            assert self._refusal(sent) == "case_closed"
            return
        message = self._run(sent)
        assert message.ticket_id == target.id
        if target.status == "resolved":
            target.status = "open"
        self._add(target, text, message, internal=False)

    @rule(place=PLACES, step=PLACES)
    def merge(self, place, step):
        case, into = self._pick(place), self._pick(place + 1 + step % (len(self._cases) - 1))
        code = self._refusal(self._links.merge(SYSTEM_ORIGIN, case.id, into.id))
        if case.original is into:
            expected = None
        elif case.original:
            expected = "already_duplicate"
        elif case in into.chain():
            expected = "link_cycle"
        else:
            expected = "duplicate_of_closed_case" if into.status == "closed" else None
        assert code == expected
        if code is None and case.original is None:
            case.original, case.former, case.status = into, case.status, "closed"

    @rule(place=PLACES)
    def unmerge(self, place):
        case = self._pick(place)
        if case.original is None:
            return
        stored = self._run(self._service.read_case(SYSTEM_ORIGIN.principal, case.id))
        (link,) = [each for each in json.loads(stored.fields)["links"] if each["kind"] == "duplicate-of"]
        self._run(self._links.remove(SYSTEM_ORIGIN, case.id, link["id"]))
        if case.status == "closed":
            case.status = case.former
        case.original = None

    @rule(place=PLACES, status=st.sampled_from(["open", "pending", "resolved", "closed"]))
    def set_status(self, place, status):
        case = self._pick(place)
        code = self._refusal(self._service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status=status)))
        if code is None:
            if case.status == "closed" != status:
                case.former = "closed"
            case.status = status

    @rule(place=PLACES, message=PLACES, number=st.integers(1, 2))
    def split(self, place, message, number):
        case = self._pick(place)
        if len(self._cases) == 12 or not case.texts:
            return
        taken = case.texts[message % len(case.texts) :][:number]
        sent = Split(messageIds=[self._ids[each] for each in taken], subject="B")
        change = self._splitter.split(SYSTEM_ORIGIN, case.id, sent)
        if len(taken) == len(case.texts):
            assert self._refusal(change) == "split_leaves_nothing"
            return
        new_id, _ = self._run(change)
        self._cases.append(ModelCase(new_id, case.customer, taken, case.notes & set(taken)))
        case.texts = [each for each in case.texts if each not in taken]

    @invariant()
    def each_case_is_read_as_one_with_its_duplicates(self):
        for case in self._cases:
            merged = [each for each in self._cases if case in each.chain()]
            for name, role in (("staff", "supervisor"), (case.customer, "customer")):
                shown = [each for each in merged if role == "supervisor" or each.customer == case.customer]
                texts = {
                    text for each in shown for text in each.texts if role == "supervisor" or text not in each.notes
                }
                # A customer does not learn of a duplicate of another customer's duplicate.
                principal = Principal(name, role, name)
                found = self._run(self._service.read_with_duplicates(principal, case.id, with_history=False))
                assert sorted(self._texts_of(found), key=self._order.index) == [
                    text for text in self._order if text in texts
                ]
                first = json.loads(found[0].fields)
                assert first["status"] == case.status
                if role == "supervisor":
                    merged_into = case.original.id if case.original and case.status == "closed" else None
                    assert found[0].merged_into == merged_into
                    assert self._pages(principal, case) == [text for text in self._order if text in texts]

    def _pages(self, principal, case):
        """Return the texts of a conversation that is read in pages of two messages."""
        texts, after, more = [], None, True
        while more:
            page = self._run(self._service.read_case_page(principal, case.id, after, 2))
            found = json.loads(page.messages)
            texts += [each["message"] for each in found]
            more, after = page.more_messages, found[-1]["id"] if found else None
        return texts

    def _texts_of(self, found):
        return [each["message"] for case in found for each in json.loads(case.messages)]

    def _add(self, target, text, message, *, internal):
        target.texts.append(text)
        self._order.append(text)
        self._ids[text] = message.id
        if internal:
            target.notes.add(text)

    def _pick(self, place):
        return self._cases[place % len(self._cases)]

    def _run(self, change):
        return self._runner.run(change)

    def _refusal(self, change):
        """Return the code with which a change is refused, or None."""
        try:
            self._run(change)
        except (Conflict, NotFound, ValidationFailed) as refusal:
            return refusal.code
        return None

    def teardown(self):
        self._runner.run(self._database.close())
        self._runner.close()


def test_no_sequence_of_merges_and_splits_loses_or_doubles_a_message(sqlite_template, tmp_path, instruments):
    """And nobody reads the messages of another customer."""
    numbers = iter(range(1000))

    def machine():
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(sqlite_template, path)
        return MergeMachine(f"sqlite:///{path}", instruments)

    limits = examples(0.5, stateful_step_count=40)
    in_thread(lambda: run_state_machine_as_test(machine, settings=limits))
