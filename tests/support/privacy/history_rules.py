"""Rules of what a timeline shows of the recorded changes of a case, in the terms of core/personal.py."""

from support_service.core.personal import FACT, PARTS, Personal

# Members of a recorded change, and the fields that it may have in `changes`. An erasure deletes `changes` as a whole.
HISTORY_RULES: dict[str, Personal] = (
    {"at": FACT, "actor": Personal("hidden", "kept"), "action": FACT, "changes": PARTS}
    | dict.fromkeys(
        (
            *("status", "snoozedUntil", "priority", "assignedAgentId", "team"),
            *(
                "attachmentId",
                "visibility",
                "attachmentVisibility",
                "linkId",
                "kind",
                "linkedCaseId",
                "splitFrom",
                "splitInto",
                "messageIds",
                "target",
                "dueAt",
            ),
        ),
        Personal("shown", "removed"),
    )
    | {"tags": Personal("word", "removed"), "filename": Personal("hidden", "removed")}
)
