"""Cleanup of multipart uploads that a killed process left open on an S3-compatible server.

It uses botocore because obstore can't list multipart uploads.
"""

from contextlib import suppress
from datetime import datetime
from typing import Any

from support_service.attachments.storage.base import KEY_PATTERN


class MultipartCleanupFailed(Exception):
    """The server can't be reached or rejects the request."""


def abort_multipart_uploads(
    bucket: str, endpoint: str | None, region: str, before: datetime, *, within: float, dry_run: bool
) -> int:
    """Abort multipart uploads of attachments that were initiated before `before`; with `dry_run`, only count them.

    Return how many. Uploads whose key is not an attachment key belong to another program and are ignored. This blocks:
    each request takes at most `within` seconds. Raises MultipartCleanupFailed.
    """
    import botocore.exceptions  # imported here: it takes 20 MB and is needed once an hour at most
    import botocore.session
    from botocore.config import Config

    try:
        client: Any = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            config=Config(connect_timeout=2, read_timeout=within, retries={"max_attempts": 1}),
        )
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        old = [
            each
            for page in pages
            for each in page.get("Uploads", [])
            if each["Initiated"] < before and KEY_PATTERN.fullmatch(each["Key"])
        ]
        for each in () if dry_run else old:
            with suppress(client.exceptions.NoSuchUpload):  # another process aborted it first
                client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as failure:
        raise MultipartCleanupFailed(str(failure)) from failure
    return len(old)
