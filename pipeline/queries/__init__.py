"""Named queries: one .sql file each; its first line is a comment that describes it."""

from __future__ import annotations

from importlib import resources

from schemas.errors import UsageError


def list_queries() -> list[str]:
    """Names the queries, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql"))


def load_query(name: str) -> str:
    """Returns the SQL of a named query.

    Raises:
        UsageError: there is no such query (lists the choices).
    """
    if name not in list_queries():
        raise UsageError(f"unknown query {name!r}; choose one of: {', '.join(list_queries())}")
    return (resources.files(__package__) / f"{name}.sql").read_text("utf-8")
