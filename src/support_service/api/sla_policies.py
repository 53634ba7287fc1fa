"""Service level policies: list, read, replace, delete."""

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, put
from support_service.api.routing.etags import KnownTags, is_known_etag, version_etag_header
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, RouteResponse, Tag
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.policy_models import Policy, SlaPolicyContent, SlaPolicyList

TAG = Tag("service levels", "Service level policies: how soon cases are answered and resolved.")
POLICIES_PATH = "/support/sla-policies"
POLICY_PATH = POLICIES_PATH + "/{policy_name}"

SLA_POLICIES_READ = Permission("sla-policies:read", {"agent": "all", "supervisor": "all"})
SLA_POLICIES_WRITE = Permission("sla-policies:write", {"supervisor": "all"})


@get(POLICIES_PATH, access=SLA_POLICIES_READ, problems=DATABASE_PROBLEMS)
async def list_sla_policies(call: Call) -> Reply[SlaPolicyList]:
    """List service level policies.

    They are in the order of their names, by code points: the first that matches a new case applies to it.
    """
    return Reply(SlaPolicyList.model_construct(items=await call.service.policies.list_policies()))


@get(
    POLICY_PATH,
    access=SLA_POLICIES_READ,
    headers=("ETag",),
    other_responses=(RouteResponse(304, "The policy has not changed.", headers=("ETag",)),),
    problems=(*DATABASE_PROBLEMS, "sla_policy_not_found"),
)
async def get_sla_policy(call: Call, policy_name: str, known: KnownTags) -> Reply[Policy | None]:
    """Get a service level policy.

    Durations are in hours, minutes and seconds, whatever they were sent in.
    """
    policy = await call.service.policies.get(policy_name)
    etag = version_etag_header(policy.version)
    return Reply(None, etag, 304) if is_known_etag(etag, known) else Reply(policy, etag)


@put(
    POLICY_PATH,
    access=SLA_POLICIES_WRITE,
    headers=("ETag",),
    other_responses=(RouteResponse(201, "The policy was created.", Policy, headers=("ETag", "Location")),),
    problems=(*DATABASE_PROBLEMS, "sla_policy_changed", "sla_policy_exists", "too_many_sla_policies"),
)
async def put_sla_policy(
    call: Call, policy_name: str, body: SlaPolicyContent, expected: ExpectedVersions
) -> Reply[Policy]:
    """Replace a service level policy, or create it.

    It applies to cases that are opened from now on, on other replicas after some seconds at most. Cases that are open
    keep the version that applied when they were opened.
    """
    policy, created = await call.service.policies.put(call.origin, policy_name, body, expected)
    if created:
        return Reply(policy, {"Location": f"{POLICIES_PATH}/{policy.name}", **version_etag_header(policy.version)}, 201)
    return Reply(policy, version_etag_header(policy.version))


@delete(
    POLICY_PATH, access=SLA_POLICIES_WRITE, problems=(*DATABASE_PROBLEMS, "sla_policy_changed", "sla_policy_not_found")
)
async def delete_sla_policy(call: Call, policy_name: str, expected: ExpectedVersions) -> Reply[None]:
    """Delete a service level policy.

    Cases that it applies to keep their clocks.
    """
    await call.service.policies.delete(call.origin, policy_name, expected)
    return Reply(None)
