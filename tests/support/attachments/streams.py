"""Byte streams of uploads and downloads."""


async def stream(data, size=65_536):
    """Yield data in blocks, as an upload does."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(storage, key, offset, length):
    return b"".join([block async for block in storage.read(key, offset, length)])
