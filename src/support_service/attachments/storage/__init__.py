"""Storages of attachment bytes: a local directory or an S3 bucket, behind one interface."""
