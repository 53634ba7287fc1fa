"""Dead letters: inbound events that were given up. On-call lists, replays and drops them."""

from support_service.api.models.oncall_actions import DeadLetterPage, DeadLetterQuery, ShownDeadLetter
from support_service.api.overrides import TAG
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.api.routing.route import Permission
from support_service.events.dead_letters import shown_event

LETTERS = "/support/dead-letters"
LETTER = LETTERS + "/{letter_id}"

READ = Permission("dead-letters:read", {"supervisor": "all"})
WRITE = Permission("dead-letters:write", {"supervisor": "all"})
WRITE_PROBLEMS = (*DATABASE_PROBLEMS, "broker_unavailable", "dead_letter_not_found")


@get(LETTERS, tag=TAG, access=READ, problems=("broker_unavailable",))
async def list_dead_letters(call: Call, query: DeadLetterQuery) -> Reply[DeadLetterPage]:
    """List dead letters, oldest first.

    Their events are shown as they arrived, also with personal data: only supervisors, who see every case, may read
    them. Without Redis they are those of this process.
    """
    letters, more = await call.services.dead_letters.page(query.cursor or "", query.limit)
    items = []
    for letter in letters:
        event, truncated = shown_event(letter)
        items.append(
            ShownDeadLetter.model_construct(
                id=letter.id,
                at=letter.at,
                tries=letter.tries,
                reason=letter.reason,
                event=event,
                truncated=truncated,
            )
        )
    return Reply(DeadLetterPage.model_construct(items=items, next_cursor=items[-1].id if more else None))


@post(LETTER + "/replay", tag=TAG, access=WRITE, problems=WRITE_PROBLEMS)
async def replay_dead_letter(call: Call, letter_id: str) -> Reply[None]:
    """Move a dead letter back to the end of its stream.

    It is applied as if it had just arrived. If it fails again, it becomes a dead letter with another id.
    """
    await call.services.dead_letters.replay(call.write_origin, letter_id)
    return Reply(None)


@delete(LETTER, tag=TAG, access=WRITE, problems=WRITE_PROBLEMS)
async def drop_dead_letter(call: Call, letter_id: str) -> Reply[None]:
    """Delete a dead letter.

    Its event is lost; the audit log keeps the id.
    """
    await call.services.dead_letters.drop(call.write_origin, letter_id)
    return Reply(None)
