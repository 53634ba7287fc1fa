"""The `support-service offload`, `sweep`, `scrub` and `retention` commands."""

import argparse
import sys
from collections.abc import Mapping
from datetime import timedelta

from support_service.commands import upkeep
from support_service.commands.runtime.database import load_migrated_settings
from support_service.commands.runtime.event_loop import run


def offload(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Move files from the local disk to S3, or back."""
    settings = load_migrated_settings(environ)
    older_than = arguments.older_than
    if older_than is None:
        older_than = timedelta(0) if arguments.reverse else settings.s3.offload_after or timedelta(days=30)
    status = upkeep.offload(
        settings,
        older_than=older_than,
        reverse=arguments.reverse,
        dry_run=arguments.dry_run,
        limit=arguments.limit,
        rate=arguments.rate,
    )
    sys.exit(run(status))


def sweep(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Compare rows, files and the ledger, and repair differences that are safe to repair."""
    sys.exit(run(upkeep.sweep(load_migrated_settings(environ), dry_run=arguments.dry_run)))


def scrub(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Hash stored files again and compare each with its recorded SHA-256."""
    sys.exit(run(upkeep.scrub(load_migrated_settings(environ), sample=arguments.sample)))


def retention(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Delete the files of cases that were closed or resolved long ago."""
    status = upkeep.delete_expired(
        load_migrated_settings(environ),
        older_than=arguments.older_than,
        statuses=arguments.status or ["closed"],
        limit=arguments.limit,
        dry_run=arguments.dry_run,
    )
    sys.exit(run(status))
