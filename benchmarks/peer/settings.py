"""Settings of the peer, read from variables with the prefix PEER_."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Addresses of the database, of Redis and of the upstream services, and the folder of the uploaded files."""

    model_config = SettingsConfigDict(env_prefix="PEER_")

    database_url: str
    redis_url: str
    upstream_url: str
    attachment_dir: Path
    timeline_ttl: int = 300  # seconds for which a timeline is cached
