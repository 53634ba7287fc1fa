"""Multipart uploads that a killed process left open on an S3-compatible server; obstore can't see them."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from support_service.attachments.storage.base import KEY


class ListingFailed(Exception):
    """The server is out of reach, or refuses."""


def abort_uploads(
    bucket: str, endpoint: str | None, region: str, before: datetime, *, within: float, dry_run: bool
) -> int:
    """Abort those of attachments begun before a moment, or only count them; returns how many.

    Uploads to keys of any other form are another program's.

    Blocks, for at most so many seconds a request. Raises ListingFailed.
    """
    import botocore.exceptions  # it takes 20 MB, and is needed once an hour at most
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
            if each["Initiated"] < before and KEY.fullmatch(each["Key"])
        ]
        for each in () if dry_run else old:
            with suppress(client.exceptions.NoSuchUpload):  # another sweep was there first
                client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as failure:
        raise ListingFailed(str(failure)) from failure
    return len(old)
