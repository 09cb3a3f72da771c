"""What Alembic runs to apply revisions: on the connection, and in the transaction, that `store.migrate` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
