"""What the service has to show, in memory: cases, who sees them, how they are sorted, and what was counted.

Time is the number of a step. Steps follow one another, so that the order of what they change is known.
"""

from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType

ACTIVE = ("open", "pending")
MOVES = {
    "open": {"pending", "resolved", "closed"},
    "pending": {"open", "resolved", "closed"},
    "resolved": {"open", "pending", "closed"},
    "closed": {"open"},
}


@dataclass(frozen=True)
class Person:
    """Who makes requests. `teams` are the teams of an agent."""

    name: str
    role: str
    teams: tuple[str, ...] = ()

    def sees(self, case):
        """Return whether a case is one of the person's."""
        if self.role == "customer":
            return case.customer == self.name
        if self.role == "agent":
            return case.agent == self.name or case.team in self.teams or (case.agent is None and case.team is None)
        return True


@dataclass
class Said:
    """A message; `at` is its step."""

    id: str
    at: int
    author: str
    text: str
    is_public: bool


@dataclass
class Case:
    """A case; `opened`, `updated` and `waiting` are steps."""

    id: str
    customer: str
    opened: int
    updated: int
    waiting: int | None
    agent: str | None = None
    team: str | None = None
    status: str = "open"
    priority: str = "normal"
    tags: tuple[str, ...] = ()
    is_snoozed: bool = False
    merged_into: str | None = None
    before_merge: tuple[str, bool] = ("open", False)
    messages: list[Said] = field(default_factory=list)
    followers: set[str] = field(default_factory=set)

    @property
    def waits_since(self):
        """The step since which the customer waits, as lists show it."""
        return self.waiting if self.status in ACTIVE else None

    def fields(self):
        """Return what bulk changes give and undo."""
        return self.agent, self.team, self.priority, self.status, self.tags, self.is_snoozed


@dataclass
class Notification:
    """What a person is told; `about` is the id of a message."""

    person: str
    kind: str
    case: Case
    about: str | None


class Refused(Exception):
    """The service has to refuse the request with a code."""


class Model:
    """All cases, the counters of the reports, and what people are told. `actor` is who makes the next change."""

    def __init__(self):
        self.cases = {}
        self.at = 0
        self.actor = ""
        self.notifications = []
        self.counted = Counter()  # what happened, by team and agent
        self.bulks = {}  # for each case that a bulk change has changed: its fields before, and its step after

    # What people do. Each returns what the service answers.

    def open(self, case_id, customer, text=None, message_id=None, team=None):
        """A new case; with a first message, its customer waits."""
        case = Case(case_id, customer, self.at, self.at, None if text is None else self.at, team=team)
        if text is not None:
            case.messages.append(Said(message_id, self.at, customer, text, is_public=True))
        self.cases[case_id] = case
        self._count("opened", case)

    def check_say(self, case, author, *, is_public=True):
        """Return the case that a message arrives in. Raises Refused."""
        target = self._arrives_in(case) if is_public else case
        if author == target.customer and target.status == "closed":
            raise Refused("case_closed")
        return target

    def say(self, case, message_id, author, text, *, is_public=True, mentioned=()):
        """Add a message where it arrives: a customer's opens a resolved or snoozed case. Who is mentioned follows."""
        target = self.check_say(case, author, is_public=is_public)
        target.messages.append(Said(message_id, self.at, author, text, is_public))
        target.updated = self.at
        if author == target.customer:
            target.waiting = self.at if target.waiting is None else target.waiting
            self._tell(target, "message", about=message_id)
            if target.status == "resolved" or target.is_snoozed:
                self._set_status(target, "open")
        elif is_public:
            target.waiting = None
        else:
            self._tell(target, "note", dict.fromkeys(mentioned, "mention"), about=message_id)
            target.followers |= {*mentioned} - {author}
        return target

    def set_status(self, case, status, *, snoozed=False):
        """Change the status: without a snooze, `pending` ends one. Raises Refused."""
        if status != case.status and status not in MOVES[case.status]:
            raise Refused("status_move_not_allowed")
        if (status, snoozed) != (case.status, case.is_snoozed):
            self._set_status(case, status, snoozed=snoozed)

    def change(self, case, **fields):
        """Change other fields."""
        changed = {name for name, value in fields.items() if getattr(case, name) != value}
        for name in changed:
            setattr(case, name, fields[name])
            case.updated = self.at
        if changed & {"agent", "team"}:
            assigned = {case.agent: "assigned"} if "agent" in changed and case.agent else {}
            self._tell(case, "assignment", assigned)

    def bulk(self, bulk_id, person, cases, change):
        """Change cases at once; return the outcome of each."""
        outcomes, before = {}, {}
        for case in cases:
            former = case.fields()
            try:
                outcomes[case.id] = self._bulk_one(person, case, change)
            except Refused as refusal:
                outcomes[case.id] = ("refused", str(refusal))
            if outcomes[case.id][0] == "changed":
                before[case.id] = (former, self.at)
        self.bulks[bulk_id] = before
        return outcomes

    def _bulk_one(self, person, case, change):
        if not person.sees(case):
            raise Refused("case_not_found")
        former = case.fields()
        status = change.get("status", case.status)
        if status != case.status and status not in MOVES[case.status]:
            raise Refused("status_move_not_allowed")
        fields = {name: change[name] for name in ("agent", "team", "priority") if name in change}
        added = [tag for tag in change.get("add_tags", ()) if tag not in case.tags]
        fields["tags"] = tuple(tag for tag in (*case.tags, *added) if tag not in change.get("remove_tags", ()))
        self.change(case, **fields)
        if "status" in change:
            self.set_status(case, status)
        return ("unchanged", None) if case.fields() == former else ("changed", None)

    def undo_bulk(self, bulk_id):
        """Give cases that did not change since their former values; return the outcomes."""
        outcomes = {}
        for case_id, (former, at) in self.bulks.pop(bulk_id).items():
            case = self.cases[case_id]
            if case.updated != at:
                outcomes[case_id] = ("refused", "case_changed_since")
                continue
            agent, team, priority, status, tags, is_snoozed = former
            self.change(case, agent=agent, team=team, priority=priority, tags=tags)
            if (status, is_snoozed) != (case.status, case.is_snoozed):
                self._set_status(case, status, snoozed=is_snoozed)
            outcomes[case_id] = ("undone", None)
        return outcomes

    def merge(self, case, original):
        """Close a case as a duplicate."""
        case.merged_into, case.before_merge = original.id, (case.status, case.is_snoozed)
        case.updated = original.updated = self.at
        if case.status != "closed":
            self._set_status(case, "closed")

    def undo_merge(self, case):
        """Separate a duplicate: it gets its former status."""
        original = self.cases[case.merged_into]
        case.merged_into = None
        case.updated = original.updated = self.at
        status, is_snoozed = case.before_merge
        if status != case.status:
            self._set_status(case, status, snoozed=is_snoozed)

    def split(self, case, new_id, message_ids):
        """Move messages into a new case."""
        moved = [said for said in case.messages if said.id in message_ids]
        case.messages = [said for said in case.messages if said.id not in message_ids]
        new = Case(new_id, case.customer, self.at, self.at, None, case.agent, case.team, priority=case.priority)
        new.tags, new.messages = case.tags, moved
        for each in (case, new):
            each.waiting, each.updated = _waiting_in(each), self.at
        self.cases[new_id] = new
        self._count("opened", new)
        for told in self.notifications:
            told.case = new if told.about in message_ids else told.case
        if new.agent:
            self._tell(new, "", {new.agent: "assigned"})

    def _set_status(self, case, status, *, snoozed=False):
        was_active, is_active = case.status in ACTIVE, status in ACTIVE
        if status != case.status:
            self._tell(case, "status")
        case.status, case.is_snoozed, case.updated = status, snoozed, self.at
        if was_active and not is_active:
            self._count("solved", case)
        if is_active and not was_active:
            self._count("reopened", case)

    def _tell(self, case, kind, others=MappingProxyType({}), about=None):
        """Tell followers, also of duplicates, and others something else, of a change.

        Nobody is told of what they do themselves.
        """
        told = {name: kind for each in self._family(case) for name in each.followers} | dict(others)
        told.pop(self.actor, None)
        self.notifications += [Notification(person, each, case, about) for person, each in told.items()]

    def _count(self, what, case):
        self.counted[what, case.team, case.agent] += 1

    def _arrives_in(self, case):
        """Return the original of a closed duplicate, as far as the customer of both is the same."""
        while case.merged_into and case.status == "closed" and self.cases[case.merged_into].customer == case.customer:
            case = self.cases[case.merged_into]
        return case

    def _family(self, case):
        """Return a case and its duplicates, and theirs."""
        family = [case]
        for each in family:
            family += [other for other in self.cases.values() if other.merged_into == each.id]
        return family

    # What lists show.

    def listed(self, person, *, sort="newest", **filters):
        """Return the cases that a list shows, in groups of cases that were changed at once."""
        shown = [case for case in self.cases.values() if person.sees(case) and _matches(case, filters)]
        return sorted(shown, key=lambda case: sort_key(case, sort))

    def told(self, person):
        """Count what a person is told of cases that the person sees, by kind and case."""
        return Counter(
            (each.kind, each.case.id)
            for each in self.notifications
            if each.person == person.name and person.sees(each.case)
        )

    def conversation(self, case, person):
        """Return the texts of a case and its duplicates that a person reads, oldest first."""
        said = sorted((said for each in self._family(case) for said in each.messages), key=lambda said: said.at)
        return [each.text for each in said if each.is_public or person.role != "customer"]


def sort_key(case, sort):
    """Return what a list is sorted by; cases that were changed in one step have the same."""
    if sort == "updated":
        return (-case.updated,)
    if sort == "waiting" and case.waits_since is not None:
        return (0, case.waits_since)
    return (1, -case.opened) if sort == "waiting" else (-case.opened,)


def _matches(case, filters):
    return all(
        case.status in wanted
        if name == "status"
        else wanted in case.tags
        if name == "tag"
        else getattr(case, name) == (None if wanted == "none" else wanted)
        for name, wanted in filters.items()
    )


def _waiting_in(case):
    """Return since when the customer waits, by the messages."""
    waiting = None
    for said in case.messages:
        if said.author == case.customer:
            waiting = said.at if waiting is None else waiting
        elif said.is_public:
            waiting = None
    return waiting
