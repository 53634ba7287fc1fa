"""The broker of event streams: in memory for one process, or Redis Streams."""
