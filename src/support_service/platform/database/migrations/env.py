"""Alembic's entry point: runs the migrations on the connection that `migrate.py` passes."""

from alembic import context

from support_service.platform.database.tables import metadata

# Partial indexes have the same conditions on PostgreSQL. tables.py does not define them for it, because naming that
# dialect there would import it at every start of a service on SQLite.
for table in metadata.tables.values():
    for index in table.indexes:
        index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,  # on PostgreSQL; on SQLite all run in the transaction begun by migrate.py
)
with context.begin_transaction():
    context.run_migrations()
