"""Cases: count, open, list, read, change, delete; their messages, status, links and timeline."""

from contextlib import nullcontext
from functools import partial

from support_service.api.case_document.parts import CaseDocument
from support_service.api.models.cases import MAX_COUNTED_CASES, CaseCount, CaseDetailQuery
from support_service.api.request_costs import charged_turn, count_cost, linked_cost, list_cost
from support_service.api.routing.call import Call, EncodedReply, Reply
from support_service.api.routing.decorators import delete, get, patch, post
from support_service.api.routing.etags import KnownTags, etag_header, is_known_etag, unique_etag_header
from support_service.api.routing.route import CASE_PROBLEMS, DATABASE_PROBLEMS, Permission, RouteResponse, Tag
from support_service.cases.case_rules import permission_missing
from support_service.cases.model.case import Case, CaseLink, CasePage, CaseSummary, Message, Viewer
from support_service.cases.model.requests import (
    DEFAULT_PAGE_SIZE,
    CaseChange,
    CaseFilters,
    CaseQuery,
    Closing,
    Merge,
    NewCase,
    NewLink,
    NewMessage,
    Split,
    StatusChange,
)
from support_service.cases.service import ExistingCase
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.guard.exchange import ANSWER_BYTES_PER_REQUEST
from support_service.platform.telemetry.logs import LOG_CASE_ID

TAG = Tag("cases", "Cases: open, list, read, change, close.")
LINKS_TAG = Tag("links", "Links between cases: related cases, duplicates, parents.")
CASES_PATH = "/support/cases"
CASE_PATH = CASES_PATH + "/{case_id}"
LINKS_PATH = CASE_PATH + "/links"

CASES_READ = Permission("cases:read", {"agent": "own", "supervisor": "all", "analyst": "masked", "customer": "own"})
CASES_WRITE = Permission("cases:write", {"agent": "own", "supervisor": "all"})
MESSAGE_PROBLEMS = (
    *CASE_PROBLEMS,
    *("attachment_not_sendable", "case_changed", "case_closed", "case_full", "variables_unfilled"),
)


# Before the routes of one case, whose ids have another form.
@get(f"{CASES_PATH}/count", access=CASES_READ, problems=(*DATABASE_PROBLEMS, "searches_waiting"))
async def count_cases(call: Call, query: CaseFilters) -> Reply[CaseCount]:
    """Count the cases that a list with these filters shows to the caller.

    The number is exact up to 1,000, as that of saved views. With `q` it counts as several requests.
    """
    check_may_search(call, query)
    in_turn = partial(charged_turn, call, count_cost(query))
    count = await call.service.cases.count_cases(call.principal, query, MAX_COUNTED_CASES + 1, in_turn)
    return Reply(CaseCount(count=min(count, MAX_COUNTED_CASES), more=count > MAX_COUNTED_CASES))


@post(
    CASES_PATH,
    access=Permission("cases:create", {"agent": "all", "supervisor": "all", "customer": "own", "service": "all"}),
    status=201,
    headers=("ETag", "Location"),
    other_responses=(
        RouteResponse(
            200,
            "The channel has a case with this `externalId`; nothing was opened.",
            Case,
            headers=("ETag", "Location", "Idempotency-Replayed"),
        ),
    ),
    problems=(
        *DATABASE_PROBLEMS,
        *("external_id_taken", "variables_unfilled"),
        "case_not_found",  # a repeat after the caller lost access
    ),
    links=(("case_id", "/id"),),
)
async def open_case(call: Call, body: NewCase) -> EncodedReply[Case]:
    """Open a case, optionally with its first message.

    `Location` and `id` identify the new case. The references in `context` are looked up in the order, payment and
    fulfillment services whenever the timeline is read. `timeline` of this response has the case's own entries only:
    context, message and the opening. Unknown fields are ignored.

    A repeat with the same `externalId` in the same channel opens nothing, and returns the existing case with 200.
    """
    case = await call.service.cases.open_case(call.origin, body)
    LOG_CASE_ID.set(case.id)  # for the access log line, after which the variable is reset
    documents = call.service.documents
    if isinstance(case, ExistingCase):
        document, status = await documents.encode_written(call.view, case.stored), 200
    else:
        document, status = documents.encoder.encode_new(call.view, call.principal, case), 201
    return _reply_written(call, document, case.version, location=case.id, status=status)


@get(CASES_PATH, access=CASES_READ, problems=(*DATABASE_PROBLEMS, "searches_waiting"))
async def list_cases(call: Call, query: CaseQuery) -> Reply[CasePage]:
    """List cases, newest first or in the order of `sort`.

    A case must match every given filter; an empty filter is ignored. `nextCursor` requests the next page, and is null
    on the last one. Synthetic cases are listed only if `channel` asks for theirs.

    A list with `q`, or with a `limit` over 50, counts as several requests. One caller's run one at a time.
    """
    check_may_search(call, query)
    cost = list_cost(query)
    async with charged_turn(call, cost) if cost else nullcontext():
        page = await call.service.cases.list_cases(call.principal, query)
    _add_viewers_and_names(call, page)
    return Reply(page)


def check_may_search(call: Call, query: CaseFilters) -> None:
    """Raise Forbidden if the query has filters by data that are masked for the caller."""
    if call.is_masked and call.service.masker.filters_by_masked(query):
        raise permission_missing("cases:search", "What is masked can't be searched for.")


@get(
    CASE_PATH,
    access=CASES_READ,
    masks_itself=True,
    headers=("ETag",),
    other_responses=(RouteResponse(304, "The case has not changed.", headers=("ETag",)),),
    problems=CASE_PROBLEMS,
)
async def get_case(call: Call, case_id: str, query: CaseDetailQuery, known: KnownTags) -> EncodedReply[Case]:
    """Get a case with its messages and attachments.

    `includeTimeline=true` adds entries of the order, payment and fulfillment services, from the cache or from a new
    call; `timelineSources` reports the freshness of each part. If a service is down, only its entries are missing.
    Changes of the case are entries of the type `case-event`; if `moreCaseEvents` is true, it has older ones.

    Read a long conversation in parts: `messagesLimit` bounds the messages. While `moreMessages` is true, the id of the
    last message as `messagesAfter` requests the next part.

    Staff get who views the case as `viewers`. That changes without a new version of the case: a 304 does not tell it.
    `names` has the names of its agent, of the authors and of the viewers, as far as the directory has them.

    A case with duplicates is read as one with them. Their messages and files are among its own, in the order of time;
    `ticketId` names the case of each. At most 20 duplicates are read at once, and `moreMessages` is true if it has
    others: read these in parts. With `includeTimeline=true` the timeline is that of all these cases, and each entry has
    its `ticketId`. Towards the rate limit each duplicate then counts as one request, and in either case each 64 KiB
    that are read. `includeLinked=true` returns a case without duplicates in the same form.
    """
    if query.include_linked:
        return _reply(call, case_id, await _read_with_duplicates(call, case_id, with_timeline=query.include_timeline))
    if query.include_timeline:
        return _reply(call, case_id, await _collect_timeline(call, case_id))
    documents = call.service.documents
    if query.is_page:
        limit = query.messages_limit or DEFAULT_PAGE_SIZE
        case, encoded = await documents.read_page(call.principal, call.view, case_id, query.messages_after, limit)
    else:
        case, encoded = await documents.read(call.principal, call.view, case_id)
    document = encoded.document
    if case.has_duplicates:  # which may change without the case
        if not query.is_page:
            document = await _read_with_duplicates(call, case_id, with_timeline=False)
        return _reply(call, case_id, document)
    if document.is_changed_by_time:  # while a clock runs, `remaining` changes without the case
        etag = unique_etag_header(call, document.version)
    else:
        etag = etag_header(call, document.version, documents.names_in(document))
    return EncodedReply(None, etag, 304) if is_known_etag(etag, known) else _reply(call, case_id, document, etag)


async def _collect_timeline(call: Call, case_id: str, *, refresh: bool = False) -> CaseDocument:
    """Return a case with its timeline; `refresh` bypasses the cache."""
    principal, view, documents = call.principal, call.view, call.service.documents
    case, encoded = await documents.read(principal, view, case_id, with_history=True)
    if case.has_duplicates:
        return await _read_with_duplicates(call, case_id, with_timeline=True, refresh=refresh)
    if encoded.document.size > ANSWER_BYTES_PER_REQUEST:
        call.exchange.check_debt()  # spares the work for an answer that would be refused
    return await documents.with_timeline(principal, view, case_id, case, encoded, refresh=refresh)


async def _read_with_duplicates(
    call: Call, case_id: str, *, with_timeline: bool, refresh: bool = False
) -> CaseDocument:
    """Return a case with the messages and files of its duplicates, and one timeline of all if wanted.

    Customers get the messages and files of their own duplicates.
    """
    principal, service = call.principal, call.service
    cases = await service.cases.read_with_duplicates(principal, case_id, with_history=with_timeline)
    call.exchange.charge(linked_cost(cases, with_timeline=with_timeline))
    return await service.documents.merge_duplicates(
        principal, call.view, cases, with_timeline=with_timeline, refresh=refresh
    )


def _reply(call: Call, case_id: str, document: CaseDocument, etag: dict[str, str] | None = None) -> EncodedReply[Case]:
    """Return a case with who views it at present, if the caller may know it.

    Without an `etag`, the answer depends on more than the case's version. It then has a tag of its own, which is valid
    in If-Match and matches no later answer. An answer with viewers, too.
    """
    viewers = call.service.stream.presence.viewers(case_id) if call.view == "full" else ()
    if viewers or etag is None:
        etag = unique_etag_header(call, document.version)
    return EncodedReply(document.to_json(viewers, call.service.documents.names_in(document, viewers)), etag)


def _reply_written(
    call: Call, document: CaseDocument, version: int, *, location: str | None = None, status: int | None = None
) -> EncodedReply[Case]:
    """Return a case as a write has left it, with the names in it; `location` is the id of a new one."""
    names = call.service.documents.names_in(document)
    headers = etag_header(call, version, names)
    if location:
        headers["Location"] = f"{CASES_PATH}/{location}"
    return EncodedReply(document.to_json(names=names), headers, status)


def _add_viewers_and_names(call: Call, page: CasePage) -> None:
    """Add who views each case at present, and the names of people, if the caller may know them."""
    if call.view != "full":
        return
    ids: dict[str, None] = {}
    for case in page.items:
        if case.assigned_agent_id:
            ids[case.assigned_agent_id] = None
        if viewers := call.service.stream.presence.viewers(case.id):
            case.viewers = [Viewer(name=each.name, state=each.state) for each in viewers]
            ids.update((each.name, None) for each in viewers)
    page.names = call.service.agents.known.names_of(ids) or None


@patch(
    CASE_PATH,
    access=CASES_WRITE,
    headers=("ETag",),
    problems=(*CASE_PROBLEMS, "case_changed", "status_move_not_allowed"),
)
async def change_case(call: Call, case_id: str, body: CaseChange, expected: ExpectedVersions) -> Reply[CaseSummary]:
    """Change some fields of a case.

    Sent fields replace the stored values, lists as a whole; other fields stay unchanged. Null clears `description` or
    `assignedAgentId`.
    """
    case = await call.service.cases.change_case(call.origin, case_id, body, expected)
    if "context" in body.sent_fields():
        await call.service.timeline.invalidate(case.id)
    return Reply(case, etag_header(call, case.version))


@delete(
    CASE_PATH,
    access=Permission("cases:delete", {"supervisor": "all"}),
    problems=(*CASE_PROBLEMS, "case_changed", "case_not_synthetic"),
)
async def delete_case(call: Call, case_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Delete a synthetic case with its files.

    The synthetic check deletes its cases with this operation. Cases that are not synthetic can't be
    deleted: close them.
    """
    removed = await call.service.cases.remove_synthetic(call.origin, case_id, expected)
    await call.service.attachments.delete_bytes(removed)
    return Reply(None)


@post(
    CASE_PATH + "/messages",
    access=Permission("messages:write", {"agent": "own", "supervisor": "all", "customer": "own"}),
    problems=(*MESSAGE_PROBLEMS, "external_id_taken"),
)
async def add_message(call: Call, case_id: str, body: NewMessage, expected: ExpectedVersions) -> Reply[Message]:
    """Add a message to a case.

    `authorType` is the type of the author. Upload files of the message first, with `staged=true`, and name them by
    their ids in `attachmentIds`: other callers see them once the message is sent. `attachmentUri` names one file by
    its `uri`.

    A 412 because of If-Match has the version of the case, `currentVersion`, and the `messages` that were added since.

    A repeat with the same `externalId` adds nothing, and returns the existing message.
    """
    return Reply(await call.service.cases.add_message(call.origin, case_id, body, expected))


@post(
    CASE_PATH + "/status",
    access=CASES_WRITE,
    query=StatusChange,
    body_required=False,
    headers=("ETag",),
    problems=(*CASE_PROBLEMS, "case_changed", "status_move_not_allowed"),
)
async def set_status(call: Call, case_id: str, body: StatusChange, expected: ExpectedVersions) -> Reply[CaseSummary]:
    """Set the status of a case, and optionally its agent.

    Both can be in the query or in a JSON body; the query takes precedence, and one of them must have a status.
    """
    case = await call.service.cases.set_status(call.origin, case_id, body, expected)
    return Reply(case, etag_header(call, case.version))


@post(CASE_PATH + "/close", access=CASES_WRITE, body_required=False, headers=("ETag",), problems=MESSAGE_PROBLEMS)
async def close_case(call: Call, case_id: str, body: Closing, expected: ExpectedVersions) -> EncodedReply[Case]:
    """Close a case, optionally with a last message.

    Closing a closed case again has no effect; the message is added, unless a customer sends it. `timeline`
    of the response has the case's own entries only: context, changes, messages and files.
    """
    case = await call.service.cases.close_case(call.origin, case_id, body, expected)
    return _reply_written(call, await call.service.documents.encode_written(call.view, case), case.version)


@post(
    LINKS_PATH,
    tag=LINKS_TAG,
    access=CASES_WRITE,
    status=201,
    headers=("Location",),
    other_responses=(RouteResponse(200, "The link exists already.", CaseLink, headers=("Location",)),),
    problems=(
        *CASE_PROBLEMS,
        *("already_duplicate", "case_changed", "duplicate_of_closed_case", "link_cycle", "too_many_links"),
    ),
    links=(("link_id", "/id"),),
)
async def add_link(call: Call, case_id: str, body: NewLink, expected: ExpectedVersions) -> Reply[CaseLink]:
    """Link a case with another one.

    `kind` says what this case is to the other one, whose link has the inverse kind: `duplicated-by` or `child-of`. A
    link `duplicate-of` closes this case. A link that exists already is returned with 200. Both cases must be visible
    to the caller, and both get a new version.
    """
    link, is_new = await call.service.links.add(call.origin, case_id, body, expected)
    return Reply(link, {"Location": f"{CASES_PATH}/{case_id}/links/{link.id}"}, 201 if is_new else 200)


@post(
    CASE_PATH + "/merge",
    tag=LINKS_TAG,
    access=CASES_WRITE,
    headers=("ETag",),
    problems=(
        *CASE_PROBLEMS,
        *("already_duplicate", "case_changed", "duplicate_of_closed_case", "link_cycle", "too_many_links"),
    ),
)
async def merge_case(call: Call, case_id: str, body: Merge, expected: ExpectedVersions) -> Reply[CaseSummary]:
    """Merge a case into another one: close it as a duplicate, and return the other case.

    It adds the link `duplicate-of`. The other case is read with the messages and files of this one from then on, and
    gets what is sent to this one. Nothing is moved: removing the link undoes it. A case that is merged into the other
    one already is not changed. Both cases must be visible to the caller.
    """
    original = await call.service.links.merge(call.origin, case_id, body.into, expected)
    return Reply(original, etag_header(call, original.version))


@post(
    CASE_PATH + "/split",
    tag=LINKS_TAG,
    access=CASES_WRITE,
    status=201,
    headers=("ETag", "Location"),
    problems=(*CASE_PROBLEMS, "case_changed", "split_leaves_nothing", "too_many_links"),
    links=(("case_id", "/id"),),
)
async def split_case(call: Call, case_id: str, body: Split, expected: ExpectedVersions) -> EncodedReply[Case]:
    """Split messages of a case, with the files that they name, into a new case.

    The new case has the customer, channel, priority, tags, agent and team of this one, and the link `split-from`. The
    messages keep their ids, authors and times. What is moved is no longer in this case: both get what follows from
    their messages, such as since when the customer waits.
    """
    new_id, case = await call.service.splitter.split(call.origin, case_id, body, expected)
    document = await call.service.documents.encode_written(call.view, case)
    return _reply_written(call, document, case.version, location=new_id)


@delete(
    LINKS_PATH + "/{link_id}",
    tag=LINKS_TAG,
    access=CASES_WRITE,
    headers=("ETag",),
    problems=(*CASE_PROBLEMS, "case_changed", "link_not_found"),
)
async def remove_link(call: Call, case_id: str, link_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Remove a link, from either of its cases.

    A duplicate that the link closed gets its former status back, unless it was reopened since. `ETag` is the new one of
    this case.
    """
    version = await call.service.links.remove(call.origin, case_id, link_id, expected)
    return Reply(None, etag_header(call, version))


@post(
    CASE_PATH + "/timeline/refresh",
    access=Permission("timeline:refresh", {"agent": "own", "supervisor": "all"}),
    stores_response=False,  # it changes no case, and its answer is large
    headers=("ETag",),
    problems=CASE_PROBLEMS,
)
async def refresh_timeline(call: Call, case_id: str) -> EncodedReply[Case]:
    """Refresh the timeline of a case, bypassing the cache.

    Calls every service that the context refers to; if one fails, its last known answer is used.
    Nothing is changed, so an `Idempotency-Key` is ignored: a repeat collects the timeline again.
    """
    document = await _collect_timeline(call, case_id, refresh=True)
    names = call.service.documents.names_in(document)
    return EncodedReply(document.to_json(names=names), unique_etag_header(call, document.version))
