"""Output of the attachment commands: summaries, and descriptions of files as text or as fields of JSON."""

import json
import sys

from support_service.attachments.model import FileTotals, StoredAttachment
from support_service.core.units import format_bytes


def print_summary(text: str, **fields: object) -> None:
    """Print the last line of a command: text on a terminal, otherwise JSON."""
    print(text if sys.stdout.isatty() else json.dumps({"summary": True, **fields}))


def format_totals(totals: FileTotals) -> str:
    """Return a number of files and their size as text."""
    return f"{totals.files} files ({format_bytes(totals.bytes)})"


def describe(attachment: StoredAttachment) -> str:
    """Return the attachment as text."""
    return f"{attachment.id} ({attachment.filename}) of case {attachment.ticket_id}"


def log_fields(attachment: StoredAttachment) -> dict[str, str | int]:
    """Return the attachment as JSON fields."""
    return {
        "id": attachment.id,
        "case": attachment.ticket_id,
        "filename": attachment.filename,
        "bytes": attachment.size_bytes,
    }
