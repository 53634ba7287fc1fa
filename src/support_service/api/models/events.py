"""The answer to an inbound event."""

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config


class Accepted(ApiModel):
    """An accepted event; it is applied soon, and only once if it is sent repeatedly."""

    model_config = example_config({"id": "e-1", "type": "fulfillment.shipment.updated.v1", "ignored": False})

    id: str
    type: str
    ignored: bool = Field(description="true for an event of an unknown type, which has no effect")
