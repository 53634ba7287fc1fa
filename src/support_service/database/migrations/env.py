"""Alembic's entry: runs the migrations on the connection that `migrate.py` hands over."""

from alembic import context

from support_service.database.tables import metadata

# Partial indexes are the same on PostgreSQL. tables.py can't say so: naming that dialect there would import it at every
# start of a service on SQLite.
for table in metadata.tables.values():
    for index in table.indexes:
        index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,  # on PostgreSQL; SQLite's are all in the one that migrate.py has begun
)
with context.begin_transaction():
    context.run_migrations()
