"""What must hold after an upgrade: events of both releases tell what the audit log does, in order."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.histories.ending import SAME_KIND, Ending, change_type_of


@dataclass
class UpgradeEnding(Ending):
    """What was found at the end. Without a Redis there are no published events, and webhooks may come in any order.

    Events of a stream and webhooks come at least once: repeats have the same id, and are left out.
    """

    sent: Sequence[str] = ()  # ids of inbound events
    applied: Sequence[str] = ()  # ids of inbound events of which the case has a message

    def errors(self) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong."""
        yield from self._errors_of_lists()
        yield from self._errors_of_audit()
        yield from self._errors_of_files()
        if self.published is not None:
            yield from self._errors_of_either_release(self.published, "stream", in_order=True)
        yield from self._errors_of_either_release(self.webhooks, "webhook", in_order=False)
        if Counter(self.sent) != Counter(self.applied):
            yield f"inbound events {self.sent} were sent, and {self.applied} were applied"

    def _errors_of_either_release(
        self, events: Sequence[Mapping[str, Any]], name: str, *, in_order: bool
    ) -> Iterator[str]:
        """Yield what is wrong with events of either release."""
        found: dict[str, list[Mapping[str, Any]]] = {case_id: [] for case_id in self.cases}
        for event in {event["id"]: event for event in events}.values():  # at the place of the first
            if event["subject"] in found and not _announces_a_closing(event):
                found[event["subject"]].append(event)
        sort = list if in_order else sorted
        for case_id, of_case in found.items():
            kinds = sort(map(_kind, of_case))
            actions = sort(SAME_KIND.get(action, action) for action in self.audited[case_id])
            if kinds != actions:
                yield f"case {case_id}: the {name} had {', '.join(kinds)}, and the audit log has {', '.join(actions)}"
            messages = [event["data"]["conversation"] for event in of_case if "conversation" in event["data"]]
            texts = sort(message["message"] for message in messages)
            if texts != sort(self.cases[case_id].texts):
                yield f"case {case_id}: the {name} had texts {texts}, and the case has {[*self.cases[case_id].texts]}"


def _kind(event: Mapping[str, Any]) -> str:
    change_type = change_type_of(event)
    return SAME_KIND.get(change_type, change_type)


def _announces_a_closing(event: Mapping[str, Any]) -> bool:
    """Whether it is the event of the status that the service publishes before that of a closing."""
    data = event["data"]
    return data.get("changeType") == "status.changed" and data["currentStatus"] == "closed"
