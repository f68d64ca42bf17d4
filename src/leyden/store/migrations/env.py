"""Alembic asks for this file; migrations run through `leyden.store.migrations.upgrade`, which sets up its own context."""
