"""Event stream brokers: Redis Streams, and an in-memory broker for a single process."""
