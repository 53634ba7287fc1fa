"""The names of what the audit log records, and the longest name of who did it. Pure."""

from typing import Literal

Action = Literal[
    "case.opened",
    "case.imported",
    "case.changed",
    "case.closed",
    "case.reopened",
    "case.deleted",
    "message.added",
    "attachment.added",
    "attachment.removed",
    "link.added",
    "link.removed",
    "override.set",
    "override.removed",
    "view.created",
    "view.changed",
    "view.deleted",
    "macro.created",
    "macro.changed",
    "macro.deleted",
    "sla-policy.created",
    "sla-policy.changed",
    "sla-policy.deleted",
    "sla.breached",
    "dead-letter.replayed",
    "dead-letter.dropped",
    "webhook.replayed",
    "webhook.dropped",
    "case.erased",
]
# Entries of earlier releases keep the former name, because their hash covers it. The API shows the current one.
FORMER_NAMES: dict[Action, str] = {"override.set": "lever.pulled", "override.removed": "lever.released"}
CURRENT_NAMES: dict[str, Action] = {former: name for name, former in FORMER_NAMES.items()}
MAX_ACTOR = 255  # characters
