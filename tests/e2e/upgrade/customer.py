"""A customer who wrote in every place that both releases have, and is erased by 0.2.0 while the upgrade rolls."""

import re

from support_service.client import Case, SupportClient
from support_service.platform.database.shared import create_database
from tests.support.privacy.stored import stored_text
from tests.support.timings import PATIENT_DATABASE

WORD = "zaphod"  # is in everything that the customer writes
CUSTOMER, ORDER = f"{WORD}-1", f"ORD-{WORD}"


async def write_to_new_release(address: str) -> Case:
    """Write with what the new release has; return the case."""
    async with SupportClient(address) as client:
        await client.put_agent("lan", display_name="Lan", teams=["returns"])
        case = await client.open_case(
            **_fields("new"),
            external_id=f"<1@{WORD}>",
            initial_message=_message("hello") | {"external_id": f"<2@{WORD}>"},
        )
        await client.add_follower(case.id, "lan")
        await client.add_message(case.id, author_type="customer", message=f"{WORD} again", external_id=f"<3@{WORD}>")
        await client.add_message(case.id, author_type="agent", message=f"Dear {WORD}, @lan", visibility="internal")
        await client.upload(case.id, f"a file of {WORD}".encode(), filename=f"{WORD}.txt")
        await client.upload(case.id, f"staged by {WORD}".encode(), filename=f"{WORD}-2.txt", staged=True)
        contacts = [{"kind": "email", "value": f"{WORD}@example.org", "label": WORD}]
        await client.put_customer(CUSTOMER, name=WORD, contacts=contacts, notes=f"{WORD} calls often")
        await client.bulk_change({"add_tags": ["returns"], "remove_tags": [WORD]}, ids=[case.id])
        await client.create_view(f"cases of {WORD}", {"customer_id": CUSTOMER})
        await client.close_case(case.id, message=f"Bye {WORD}")
        await client.set_status(case.id, "open")
        return await client.get_case(case.id, include_timeline=True)


async def write_to_earlier_release(address: str, case: Case) -> None:
    """Write to a case that exists and to a new one."""
    async with SupportClient(address) as client:
        await client.add_message(case.id, author_type="customer", message=f"{WORD} once more")
        another = await client.open_case(**_fields("earlier"), initial_message=_message("here, too"))
        await client.upload(another.id, f"another file of {WORD}".encode(), filename=f"{WORD}-3.txt")
        await client.close_case(another.id, message=f"Bye {WORD}")


def _fields(name: str) -> dict[str, object]:
    return {
        "subject": f"{WORD}'s parcel, {name}",
        "description": f"I am {WORD}",
        "channel": f"the phone of {WORD}",
        "customer_id": CUSTOMER,
        "context": [{"type": "order", "orderId": ORDER}, {"note": WORD}],
        "tags": [WORD],
    }


def _message(text: str) -> dict[str, object]:
    return {"author_type": "customer", "message": f"{WORD} says {text}", "metadata": {"name": WORD}}


async def places(url: str, files, redis) -> list[str]:
    """Return what is around each place where the word is stored."""
    database = create_database(url, timings=PATIENT_DATABASE)
    await database.open()
    text = await stored_text(database, files, redis)
    await database.close()
    return [text[max(0, at.start() - 150) : at.end() + 60] for at in re.finditer(WORD, text)]
