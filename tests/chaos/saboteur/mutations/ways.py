"""How mutations are made, and the list of them."""

import zlib
from collections.abc import Callable
from typing import Any

from django.db import transaction

from jobs import statements
from tenants.binding import bind_to_public
from tenants.connection import connection

MUTATIONS: dict[str, Callable[[], None]] = {}


def mutation(function: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[function.__name__.replace("_", "-")] = function
    return function


def edit(module: Any, statement: str, old: str, new: str) -> None:
    text = getattr(module, statement)
    if old not in text:
        raise LookupError(f"{statement} has no {old!r} any more")
    setattr(module, statement, text.replace(old, new))


def execute(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else []


def edit_function(function: str, old: str, new: str) -> None:
    """Let the product's statements call a copy of one of its functions in which something is changed."""
    bind_to_public()
    copy = f"{function}_{zlib.crc32(new.encode())}"
    with transaction.atomic():
        # Several processes begin with it at once.
        execute("SELECT pg_advisory_xact_lock(1)")
        [[text]] = execute("SELECT pg_get_functiondef(%s::regproc)", f"public.{function}")
        if old not in text:
            raise LookupError(f"{function}() has no {old!r} any more")
        with connection.cursor() as cursor:
            cursor.execute(text.replace(old, new).replace(f"public.{function}(", f"public.{copy}(", 1))
    # Processes that are forked have connections of their own.
    connection.close()
    for name, statement in list(vars(statements).items()):
        if isinstance(statement, str) and f"public.{function}(" in statement:
            setattr(statements, name, statement.replace(f"public.{function}(", f"public.{copy}("))
