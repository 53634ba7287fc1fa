"""Zammad: tickets of its REST API, as `GET /api/v1/tickets/{id}?expand=true` returns them.

Each ticket has its articles (`GET /api/v1/ticket_articles/by_ticket/{id}?expand=true`) in a member `articles`, and may
have its tags in a member `tags`. An attachment of an article is imported if it has a member `path`, the path of its
file.

Left out: organizations, the history of changes, links between tickets, mentions, checklists, time accounting, service
levels and escalations, custom fields, and signatures of mails. Colours, formats and inline images of articles are left
out, too, and attachments without `path`. The names of these attachments are kept in the metadata of the message. Users
are left out except for the ids of customer and owner, and the e-mail address that is the id of a customer.
"""

from support_service.cases.model.vocabulary import Json
from support_service.importing import fields
from support_service.importing.fields import ExportedObject

REMINDER = "pending reminder"  # the state with a time at which the owner is reminded
STATUSES = {
    "new": "open",
    "open": "open",
    REMINDER: "pending",
    "pending close": "pending",
    "solved": "resolved",
    "resolved": "resolved",
    "closed": "closed",
    "merged": "closed",
    "removed": "closed",
}
PRIORITIES = {"1 low": "low", "2 normal": "normal", "3 high": "high"}
CHANNELS = {"email": "email", "phone": "phone", "web": "web", "note": "web", "chat": "chat", "sms": "sms"}
SOCIAL_CHANNELS = ("twitter", "facebook", "telegram", "whatsapp")
AUTHORS = {"customer": "customer", "agent": "agent", "system": "bot", "1": "agent", "2": "customer", "3": "bot"}
SYSTEM_USER_ID = 1  # the id of the user who owns tickets without an owner
KEPT_ARTICLE_FIELDS = ("from", "to", "cc", "subject", "type")


def map_ticket(document: Json) -> Json:
    """Return a ticket with its articles as a case."""
    ticket = ExportedObject(document)
    ticket_id, state, number = ticket.required_value("id"), ticket.required_value("state"), ticket.get("number")
    title = str(ticket.get("title") or "").strip() or f"Zammad ticket {number}"
    articles = fields.in_order_of_time(ticket.children("articles"))
    owner = ticket.get("owner") if ticket.get("owner") != "-" else None
    has_owner = bool(owner) or ticket.get("owner_id") not in (None, SYSTEM_USER_ID)
    status = STATUSES.get(str(state).lower()) or ("closed" if ticket.get("close_at") else "open")
    files: list[Json] = []
    messages = [part for article in articles for part in fields.split_message(_map_article(article, files))]
    described = [
        f"Zammad ticket {number}",
        ticket.text("note"),
        title if len(title) > fields.MAX_SUBJECT_LENGTH else "",
    ]
    tags = ticket.get("tags")
    return fields.without_empty(
        {
            "externalId": f"zammad:{ticket_id}",
            "subject": fields.shortened(title, fields.MAX_SUBJECT_LENGTH),
            "description": fields.split_text("\n".join(filter(None, described)))[0],
            "customerId": fields.identifier(ticket.get("customer"), "zammad", ticket.get("customer_id")),
            "customer": fields.customer(None, ticket.get("customer"), None),
            "channel": _map_channel(ticket, articles),
            "priority": _map_priority(ticket.get("priority")),
            "assignedAgentId": fields.identifier(owner, "zammad", ticket.get("owner_id")) if has_owner else None,
            "team": str(ticket.get("group") or "")[:36],
            "tags": fields.cleaned_tags(
                tags.get("tags") if isinstance(tags, dict) else tags
            ),  # as of `GET /api/v1/tags`
            "context": [fields.without_empty({"type": "zammad", "ticketNumber": number, "state": state})],
            "status": status,
            "snoozedUntil": ticket.time_value("pending_time") if str(state).lower() == REMINDER else None,
            "sentAt": ticket.time_value("created_at"),
            "closedAt": ticket.time_value("close_at") if status in ("resolved", "closed") else None,
            "messages": messages,
            "attachments": files,
        }
    )


def _map_article(article: ExportedObject, files: list[Json]) -> Json:
    """Return an article as a message, and add its files to `files`."""
    body = str(article.get("body") or "")
    author = article.mapped_value("sender", article.get("sender") or article.get("sender_id") or "system", AUTHORS)
    visibility = "internal" if article.get("internal") else "public"
    named: list[str] = []
    missing: list[str] = []
    for attachment in article.children("attachments"):
        name, path = str(attachment.get("filename") or "file"), attachment.text("path")
        if not path:
            missing.append(name)
            continue
        named.append(path)
        preferences = attachment.child("preferences")
        kind = preferences.text("Mime-Type") or preferences.text("Content-Type")
        file = {"path": path, "filename": name, "contentType": kind, "visibility": visibility}
        files.append(fields.without_empty(file | {"sentAt": article.time_value("created_at")}))
    metadata = fields.without_empty(
        {name: article.get(name) for name in KEPT_ARTICLE_FIELDS} | {"filesLeftOut": missing}
    )
    return fields.without_empty(
        {
            "externalId": str(article.required_value("id")),
            "authorType": author,
            "authorId": fields.identifier(article.get("created_by"), "zammad", article.get("created_by_id"))
            if author == "agent"
            else None,
            "visibility": visibility,
            "sentAt": article.time_value("created_at"),
            "metadata": metadata,
            "attachments": named,
        }
    ) | {"message": fields.text_of_html(body) if "html" in str(article.get("content_type")) else body}


def _map_channel(ticket: ExportedObject, articles: list[ExportedObject]) -> str:
    kinds = [ticket.get("create_article_type"), *(article.get("type") for article in articles)]
    kind = str(next(filter(None, kinds), "web")).lower()
    return "social" if kind.startswith(SOCIAL_CHANNELS) else CHANNELS.get(kind.split(" ")[0], kind[:32])


def _map_priority(name: object) -> str | None:
    """Return a priority by its name. One that Zammad does not have itself loses its number: `4 urgent` is `urgent`."""
    word = str(name).lower()
    return PRIORITIES.get(word, word.split(" ")[-1]) if name else None
