"""Alembic's entry: runs the migrations on the connection that `migrate.py` hands over."""

from alembic import context

from support_service.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,  # on PostgreSQL; SQLite's are all in the one that migrate.py has begun
)
with context.begin_transaction():
    context.run_migrations()
