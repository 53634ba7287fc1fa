"""Service level policies as clients send and get them."""

from support_service.cases.model.case import ApiModel, example_config
from support_service.sla.policy import EXAMPLE, EXAMPLE_FIELDS, Policy, PolicyContent


class SlaPolicyContent(PolicyContent):
    """The content of a policy."""

    model_config = example_config(EXAMPLE_FIELDS)


class SlaPolicyList(ApiModel):
    """All policies, in the order in which they are tried."""

    model_config = example_config({"items": [EXAMPLE]})

    items: list[Policy]
