"""How mutations are made, and the list of them."""

from collections.abc import Callable
from typing import Any

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
