"""Chatwoot: conversations of its API, as `GET /api/v1/accounts/{account}/conversations/{id}` returns them.

The member `messages` of each conversation has all its messages, those of
`GET /api/v1/accounts/{account}/conversations/{id}/messages`: a conversation as it is returned has only the last one.
An attachment is imported if it has a member `path`, the path of its file; the URL of others is kept.

Left out: activity messages ("… resolved the conversation"), contacts except for their ids, inboxes, the times at which
messages were read, ratings, service levels, automations and campaigns, rich contents such as cards and forms (their
text is kept), and further URLs of a message with several attachments.
"""

from support_service.cases.model.vocabulary import Json
from support_service.importing import fields

STATUSES = {"open": "open", "pending": "pending", "snoozed": "pending", "resolved": "resolved"}
ACTIVITY = ("2", "activity")
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


def map_conversation(conversation: Json) -> Json:
    """Return a conversation with its messages as a case. Raises KeyError for one without `id` or `status`."""
    meta = conversation.get("meta") or {}
    more = conversation.get("additional_attributes") or {}
    sender, assignee, team = (meta.get(name) or {} for name in ("sender", "assignee", "team"))
    status = str(conversation["status"]).lower()
    subject = str(more.get("mail_subject") or "").strip() or f"Conversation {conversation['id']}"
    files: list[Json] = []
    said = sorted(
        conversation.get("messages") or [], key=lambda each: (fields.time(each["created_at"]) or "", each["id"])
    )
    messages = [
        part
        for message in said
        if str(message.get("message_type")).lower() not in ACTIVITY
        for part in fields.split_message(_message(message, files))
    ]
    attributes = conversation.get("custom_attributes") or {}
    context = [{"type": "chatwoot", "conversationId": conversation["id"], "customAttributes": attributes}]
    return fields.filled(
        {
            "externalId": f"chatwoot:{conversation.get('account_id') or 0}:{conversation['id']}",
            "subject": fields.shortened(subject, fields.MAX_SUBJECT_LENGTH),
            "customerId": fields.identifier(sender.get("identifier"), "chatwoot", sender.get("id")),
            "channel": _channel(meta.get("channel")),
            "priority": conversation.get("priority"),
            "assignedAgentId": fields.identifier(assignee.get("email"), "chatwoot", assignee.get("id")),
            "team": str(team.get("name") or "")[:36],
            "tags": fields.tags(conversation.get("labels")),
            "context": [fields.filled(entry) for entry in context],
            "status": STATUSES.get(status, status),
            "sentAt": fields.time(conversation.get("created_at")),
            "closedAt": fields.time(conversation.get("last_activity_at")) if status == "resolved" else None,
            "messages": messages,
            "attachments": files,
        }
    )


def _message(message: Json, files: list[Json]) -> Json:
    """Return a message as one of the API, and add its files to `files`."""
    author = AUTHORS.get(str(message.get("message_type")).lower(), str(message.get("message_type")))
    sender = message.get("sender") or {}
    if author == "agent" and str(sender.get("type") or message.get("sender_type")).lower() in BOT_SENDERS:
        author = "bot"
    visibility, sent_at = ("internal" if message.get("private") else "public"), fields.time(message["created_at"])
    named: list[str] = []
    url = None
    for attachment in message.get("attachments") or []:
        path, address = attachment.get("path"), attachment.get("data_url")
        if path:
            named.append(path)
            files.append(fields.filled({"path": path, "visibility": visibility, "sentAt": sent_at}))
        elif isinstance(address, str) and address.startswith(("http://", "https://")):
            url = url or address
    email = (message.get("content_attributes") or {}).get("email") or {}
    metadata = {"sender": sender.get("name"), "subject": email.get("subject"), "sourceId": message.get("source_id")}
    return fields.filled(
        {
            "externalId": str(message["id"]),
            "authorType": author,
            "visibility": visibility,
            "sentAt": sent_at,
            "metadata": fields.filled(metadata),
            "attachments": named,
            "attachmentUri": None if named else url,
        }
    ) | {"message": message.get("content")}


def _channel(name: object) -> str:
    word = str(name or "chat").rpartition(":")[2].lower()
    return CHANNELS.get(word, word[:32])
