"""Import every module of the service, so that forked processes start without importing anything."""

import gc
import pkgutil
from importlib import import_module

import support_service

DRIVERS = ("aiosqlite", "asyncpg", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite")

for found in pkgutil.walk_packages(support_service.__path__, f"{support_service.__name__}."):
    if not found.name.endswith(".__main__") and ".migrations" not in found.name:
        import_module(found.name)
for name in DRIVERS:  # SQLAlchemy imports these with the first engine
    import_module(name)

gc.collect()
gc.freeze()  # a collection in a fork would copy the memory of all of them
