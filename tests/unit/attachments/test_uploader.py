"""Upload slots: how many uploads run at once, in total and for one customer or agent."""

from contextlib import ExitStack

import pytest

from support_service.attachments.uploader import UploadSlots
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unavailable


@pytest.mark.parametrize("role", ["customer", "agent"])
def test_customer_or_agent_has_a_quarter_of_the_upload_slots(instruments, role):
    """A service may use all of them."""
    slots = UploadSlots(instruments, 8)
    with ExitStack() as uploads:

        def begin(role, name):
            uploads.enter_context(slots.occupy(Principal(name, role, name)))

        for name in ("one", "two"):
            for _ in range(2):
                begin(role, name)
            with pytest.raises(Unavailable, match="Too many"):
                begin(role, name)
        for _ in range(4):
            begin("service", "desk")
        with pytest.raises(Unavailable, match="Too many"):
            begin("service", "desk")
    assert not slots._active_by_user  # noqa: SLF001 - memory that nothing shows
    begin(role, "one")
