"""Bytes as uploads bring them, and as reads give them."""


async def stream(data, size=65_536):
    """Bytes as an upload brings them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(storage, key, offset, length):
    """All that a read gives."""
    return b"".join([block async for block in storage.read(key, offset, length)])
