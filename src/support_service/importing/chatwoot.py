"""Chatwoot: conversations of its API, as `GET /api/v1/accounts/{account}/conversations/{id}` returns them.

The member `messages` of each conversation has all its messages, from
`GET /api/v1/accounts/{account}/conversations/{id}/messages`. A conversation as it is returned has only the last one. An
attachment is imported if it has a member `path`, the path of its file; the URL of others is kept.

Left out: activity messages ("… resolved the conversation"), inboxes, the times at which messages were read, ratings,
service levels, automations and campaigns. Of contacts only ids, names, e-mail addresses and phone numbers are read, and
of rich contents such as cards and forms only the text. Of several attachments of a message only the first has its URL
in the message.
"""

from collections.abc import Mapping
from typing import Any

from support_service.cases.model.vocabulary import Json
from support_service.importing import fields
from support_service.importing.fields import ExportedObject

STATUSES = {"open": "open", "pending": "pending", "snoozed": "pending", "resolved": "resolved"}
ACTIVITY_MESSAGE_TYPES = ("2", "activity")
AUTHORS = {
    "0": "customer", "incoming": "customer", "1": "agent", "outgoing": "agent", "3": "bot", "template": "bot"
}  # fmt: skip
BOT_SENDERS = frozenset({"agent_bot", "agentbot", "captain_assistant", "captain::assistant"})
CHANNELS = {
    "email": "email",
    "webwidget": "chat",
    "api": "api",
    "twiliosms": "sms",
    "sms": "sms",
    "voice": "phone",
    **dict.fromkeys(
        ("whatsapp", "telegram", "line", "facebookpage", "instagram", "twitterprofile", "tiktok"), "social"
    ),
}


def map_conversation(document: Json) -> Json:
    """Return a conversation with its messages as a case."""
    conversation = ExportedObject(document)
    meta, number = conversation.child("meta"), conversation.required_value("id")
    sender, assignee, team = (meta.child(name) for name in ("sender", "assignee", "team"))
    agent_id = fields.identifier(assignee.get("email"), "chatwoot", assignee.get("id"))
    status = conversation.mapped_value("status", conversation.required_value("status"), STATUSES)
    is_snoozed = str(conversation.get("status")).lower() == "snoozed"
    mail_subject = conversation.child("additional_attributes").get("mail_subject")
    subject = str(mail_subject or "").strip() or f"Conversation {number}"
    files: list[Json] = []
    messages = [
        part
        for message in fields.in_order_of_time(conversation.children("messages"))
        if str(message.get("message_type")).lower() not in ACTIVITY_MESSAGE_TYPES
        for part in fields.split_message(_map_message(message, files, {assignee.get("id"): agent_id}))
    ]
    attributes = conversation.get("custom_attributes") or {}
    context = [{"type": "chatwoot", "conversationId": number, "customAttributes": attributes}]
    return fields.without_empty(
        {
            "externalId": f"chatwoot:{conversation.get('account_id') or 0}:{number}",
            "subject": fields.shortened(subject, fields.MAX_SUBJECT_LENGTH),
            "customerId": fields.identifier(sender.get("identifier"), "chatwoot", sender.get("id")),
            "customer": fields.customer(sender.get("name"), sender.get("email"), sender.get("phone_number")),
            "channel": _map_channel(meta.get("channel")),
            "priority": conversation.get("priority"),
            "assignedAgentId": agent_id,
            "team": str(team.get("name") or "")[:36],
            "tags": fields.cleaned_tags(conversation.get("labels")),
            "context": [fields.without_empty(entry) for entry in context],
            "status": status,
            "snoozedUntil": conversation.time_value("snoozed_until") if is_snoozed else None,
            "sentAt": conversation.time_value("created_at"),
            "closedAt": conversation.time_value("last_activity_at") if status == "resolved" else None,
            "messages": messages,
            "attachments": files,
        }
    )


def _map_message(message: ExportedObject, files: list[Json], agents: Mapping[Any, str | None]) -> Json:
    """Return a message as one of the API, and add its files to `files`. `agents` are known by their numbers."""
    author = message.mapped_value("message_type", message.get("message_type"), AUTHORS)
    sender = message.child("sender")
    if author == "agent" and str(sender.get("type") or message.get("sender_type")).lower() in BOT_SENDERS:
        author = "bot"
    author_id = None
    if author == "agent":  # the sender has no mail address, but the agent of the conversation has one
        author_id = agents.get(sender.get("id")) or fields.identifier(None, "chatwoot", sender.get("id"))
    visibility, sent_at = ("internal" if message.get("private") else "public"), message.time_value("created_at")
    named: list[str] = []
    url = None
    for attachment in message.children("attachments"):
        path, address = attachment.text("path"), attachment.get("data_url")
        if path:
            named.append(path)
            files.append(fields.without_empty({"path": path, "visibility": visibility, "sentAt": sent_at}))
        elif isinstance(address, str) and address.startswith(("http://", "https://")):
            url = url or address
    subject = message.child("content_attributes").child("email").get("subject")
    metadata = {"sender": sender.get("name"), "subject": subject, "sourceId": message.get("source_id")}
    return fields.without_empty(
        {
            "externalId": str(message.required_value("id")),
            "authorType": author,
            "authorId": author_id,
            "visibility": visibility,
            "sentAt": sent_at,
            "metadata": fields.without_empty(metadata),
            "attachments": named,
            "attachmentUri": None if named else url,
        }
    ) | {"message": message.text("content")}


def _map_channel(name: object) -> str:
    word = str(name or "chat").rpartition(":")[2].lower()
    return CHANNELS.get(word, word[:32])
