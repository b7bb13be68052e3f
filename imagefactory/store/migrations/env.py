"""alembic's environment: the connection comes from records.py, never from a file."""

from alembic import context

from imagefactory.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
