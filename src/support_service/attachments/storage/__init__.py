"""Where the bytes of attachments are stored: a local directory or an S3 bucket, behind one interface."""
