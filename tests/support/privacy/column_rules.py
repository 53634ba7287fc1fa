"""Rules of database columns: what an erasure of a customer leaves in the rows about them.

A new column needs a name here: tests name the columns without a rule, and check what an erasure does against the rules.
"""

from typing import Literal

ColumnRule = Literal["kept", "overwritten", "deleted", "nobody's data"]


def _rules(kept: str = "", overwritten: str = "", deleted: str = "", nobodys: str = "") -> dict[str, ColumnRule]:
    """Return the rules of columns: kept, overwritten or emptied in a row that stays, deleted with the row, or no data.

    No data says nothing about a customer: it is counted by the service, or belongs to staff or to no one.
    """
    named: list[tuple[str, ColumnRule]] = [
        *((name, "kept") for name in kept.split()),
        *((name, "overwritten") for name in overwritten.split()),
        *((name, "deleted") for name in deleted.split()),
        *((name, "nobody's data") for name in nobodys.split()),
    ]
    assert len(dict(named)) == len(named), f"a column has two rules: {named}"
    return dict(named)


COLUMN_RULES: dict[str, dict[str, ColumnRule]] = {
    "tickets": _rules(
        kept="id status priority assigned_agent_id team created_at updated_at internal_updated_at waiting_since "
        "answered_at sent_at sla_due_at",
        overwritten="subject description customer_id channel context tags search_text external_id conversation_bytes",
        nobodys="seq version internal_changes timeline_epoch sla_policy synthetic",
    ),
    "ticket_tags": _rules(deleted="tag", nobodys="seq"),
    "messages": _rules(
        kept="id ticket_id author_type visibility sent_at created_at",
        overwritten="message attachment_uri attachment_ids sentiment metadata external_id",
        nobodys="seq has_document",
    ),
    "search_documents": _rules(overwritten="words", nobodys="id internal"),
    "ticket_references": _rules(deleted="kind value", nobodys="ticket_id"),
    "case_links": _rules(kept="id case_id kind other_case_id previous_status created_at", nobodys="seq"),
    # What is kept of a file is in the record of its deletion.
    "attachments": _rules(
        kept="id ticket_id size_bytes",
        deleted="filename content_type sha256 storage_key created_at detected_type mover moving_until visibility",
        nobodys="seq storage",
    ),
    "staged_attachments": _rules(
        deleted="id filename content_type size_bytes sha256 storage_key created_at detected_type "
        "staged_by staged_until",
        nobodys="ticket_id storage",
    ),
    "attachment_deletions": _rules(
        kept="attachment_id ticket_id size_bytes deleted_at", overwritten="filename sha256", nobodys="reason"
    ),
    # The audit log keeps whose view was deleted.
    "views": _rules(kept="id owner team", deleted="name query created_at updated_at", nobodys="seq version"),
    "outbox": _rules(kept="type at case_id", overwritten="event", nobodys="seq fanned_out"),
    "webhook_deliveries": _rules(
        kept="endpoint type since due reason case_id", overwritten="event", nobodys="seq state tries"
    ),
    "audit_log": _rules(
        kept="at actor role action case_id request_id", overwritten="changes", nobodys="seq position salt digest hash"
    ),
    "idempotency_keys": _rules(
        kept="id request created_at case_id",
        overwritten="owner status headers body large_response_of",
        nobodys="until state",
    ),
    "case_clocks": _rules(
        kept="case_id target state allowance used running_since due_at ended_at", nobodys="policy public"
    ),
    # An erasure reaches none of these: they have neither a customer nor a case.
    "attachment_leftovers": _rules(nobodys="storage storage_key size_bytes due_at mover removing"),
    "attachment_ledger": _rules(nobodys="storage files bytes"),
    "case_counts": _rules(nobodys="status priority number"),
    "clock_counts": _rules(nobodys="target number"),
    "timeline_levers": _rules(nobodys="name value reason until set_at"),
    "leases": _rules(nobodys="name holder fence expires_at"),
    "inbound_events": _rules(nobodys="source id at reached done"),
    "audit_head": _rules(nobodys="id position hash"),
    "console_sessions": _rules(nobodys="id token_hash sealed_token created_at expires_at"),
    "macros": _rules(nobodys="seq name text status tags created_at updated_at version"),
    "sla_policies": _rules(nobodys="seq name content is_current created_at updated_at version"),
    "secrets": _rules(nobodys="name value"),
}
