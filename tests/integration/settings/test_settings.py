"""Settings are read once from the environment, and an invalid value stops the start with one line."""

import pytest

from support_service.core.errors import UserError
from support_service.platform.settings import Settings


@pytest.mark.parametrize(("variable", "value"), [("SUPPORT_ATTACHMENT_STORE", "s3"), ("SUPPORT_OFFLOAD_AFTER", "30d")])
def test_s3_settings_require_a_bucket(variable, value):
    """Settings that need a bucket are refused without one, and the line says so."""
    with pytest.raises(UserError) as refusal:
        Settings.load({variable: value})
    assert str(refusal.value) == f"{variable}={value!r} requires SUPPORT_S3_BUCKET"
    settings = Settings.load({variable: value, "SUPPORT_S3_BUCKET": "files"})
    assert (settings.s3.bucket, settings.s3.region, settings.s3.endpoint) == ("files", "us-east-1", None)
