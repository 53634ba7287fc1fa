"""Write docs/operations/data-inventory.md from models and tables, or with --check only say whether it is up to date."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from generated_page import write_or_check

from support_service.cases.case_files import STAGING_TIME
from support_service.cases.model.case import Attachment, Case, CaseLink, CaseSummary, ListedCase, Message
from support_service.core.personal import rules_of
from support_service.desk.bulk import UNDO_TIME
from support_service.events.webhook_sender import RETENTION_DELIVERED, RETENTION_FAILED
from support_service.platform.database.tables import ERASURE, metadata
from support_service.platform.idempotency_keys import RETENTION

PAGE = Path(__file__).parent / "operations/data-inventory.md"
HEAD = """\
# Which personal data is where

`make generate` writes this page from the fields of the models and the columns of the tables, where each says what it
means for privacy. Other fields and columns say nothing about who a customer is. How to erase and export:
[Customers' data](privacy.md).

## What is shown

Staff (agents and supervisors) are shown everything of the cases that they may see. Customers are shown their own cases
without internal notes and files, and without who acted. Services are shown only the answers to what they send. Analysts
are shown all cases, masked as follows. The last column is what an erasure leaves of the field in stored events.
"""
SHOWN_COLUMNS = ("field", "analysts are shown", "an erasure leaves")
STORED_COLUMNS = ("table", "columns", "an erasure leaves", "kept for")
ELSEWHERE_COLUMNS = ("where", "what", "an erasure", "kept for")
ELSEWHERE = (
    ("disk or S3", "the bytes of files", "deletes them", "as long as the row in `attachments`"),
    ("Redis: stream", "published events", "erases the events of the customer's cases", "`SUPPORT_EVENTS_KEEP` events"),
    (
        "Redis: inbound stream",
        "events of other services",
        "removes applied events that name the customer or an object of the customer's cases",
        "10,000 events, or a tenth of `SUPPORT_EVENTS_KEEP`",
    ),
    (
        "Redis: cache",
        "answers of the sources",
        "removes the answers about the customer's cases",
        "`SUPPORT_TIMELINE_CACHE_TTL` and an hour",
    ),
    ("memory", "encoded cases, changes for streams", "waits for their end", "minutes, or until others displace them"),
    ("backups", "all of the above", "does not reach them", "as the operator keeps them"),
)
MODELS = (CaseSummary, ListedCase, Case, Message, Attachment, CaseLink)
SHOWN = {
    "masked": "`[masked]`",
    "words": "each of one word without a long number, others as `[masked]`",
    "known": "it, if the service knows the value, otherwise `other`",
    "pseudonym": "a pseudonym",
    "author": "a pseudonym for a customer, unchanged for others",
    "entries": "entries with masked values",
    "hidden": "nothing",
}
LEFT = {
    "kept": "it",
    "replaced": "`[erased]`",
    "replaced if unknown": "it, if the service knows the value, otherwise `other`",
    "emptied": "an empty value",
    "removed": "nothing",
    "customer removed": "nothing for a customer, unchanged for others",
    "deleted": "nothing: the row is deleted",
    "rewritten": "what says nothing about the customer",
}
CASE = "as long as the case"
KEPT_FOR = {
    "tickets": "without limit, or until retention deletes the case",
    "ticket_tags": CASE,
    "messages": CASE,
    "search_documents": CASE,
    "ticket_references": CASE,
    "report_changes": "until it is counted: a job does so from 500 changes on",
    "case_results": CASE,
    "attachments": "as long as the case, or `SUPPORT_RETENTION_AFTER`",
    "staged_attachments": f"{STAGING_TIME.total_seconds() / 3600:g} hours",
    "attachment_deletions": "as `tickets`",
    "views": "until the view is deleted",
    "notifications": "30 days",
    "bulk_items": f"{UNDO_TIME.total_seconds() / 3600:g} hour",
    "customers": "until a run of retention finds no case of the person",
    "customer_terms": "as `customers`",
    "outbox": "until the event is published",
    "published_events": "an hour",
    "webhook_deliveries": f"{RETENTION_DELIVERED.days} day; {RETENTION_FAILED.days} days if failed",
    "audit_log": "without limit, or until a segment is detached",
    "idempotency_keys": f"{RETENTION.total_seconds() / 3600:g} hours",
}


def page() -> str:
    """Return the page for the current fields and tables."""
    return "\n".join(
        (
            HEAD,
            *_table(SHOWN_COLUMNS, _shown()),
            "\n## Where it is stored\n",
            *_table(STORED_COLUMNS, _stored()),
            "\n## Outside the database\n",
            *_table(ELSEWHERE_COLUMNS, ELSEWHERE),
            "",
        )
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def _shown() -> Iterator[Sequence[str]]:
    for model in MODELS:
        for name, rule in rules_of(model).items():
            if name in model.__annotations__ and rule.analyst in SHOWN and rule.erasure in LEFT:
                title = model.model_config.get("title") or model.__name__
                member = model.model_fields[name].alias or name
                yield f"{title}.`{member}`", SHOWN[rule.analyst], LEFT[rule.erasure]


def _stored() -> Iterator[Sequence[str]]:
    """Yield a row for each table and rule, with its columns."""
    for table in metadata.tables.values():
        columns: dict[str, list[str]] = {}
        for column in table.c:
            columns.setdefault(column.info[ERASURE], []).append(f"`{column.name}`")
        for rule, names in columns.items():
            if rule not in ("kept", "not personal"):
                yield f"`{table.name}`", ", ".join(names), LEFT[rule], KEPT_FOR[table.name]


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, {PAGE: page()}))
