"""Which tenant the running code works for: a context variable, which threads do not share and coroutines inherit.

Nothing is bound until an entry point binds it: a request, a task, a command. Code that belongs to no tenant must not
read or write any tenant's rows, nor those of `public`, by accident.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from psycopg.sql import Identifier

REMEDY = (
    "Nothing is bound in this context: no tenant, and not `public`. Enter django_tenants.utils.schema_context, which "
    'takes "public", too, or tenant_context. A thread of your own, or of a pool, starts with nothing: enter it there '
    "(what it writes commits by itself), or use asgiref.sync.sync_to_async, which hands on what is bound."
)


# As PostgreSQL has them, without its own
SCHEMA_NAME = re.compile(r"(?!pg_)[^\0]{1,63}", re.IGNORECASE)


class Owner:
    """Whom a thread and its database session serve for a while: a request, a task, a process of the platform's.

    Helper threads have the owner of the context that they were given. A thread that was given none has an owner of its
    own for each block in which it binds something.
    """

    #: Statements that set a session up for it, after the cleaning and in the same transaction
    limits: tuple[bytes, ...] = ()
    #: Whether another one has taken its place: what is left of it ends nothing of anybody's
    is_gone = False


class Unbound(RuntimeError):
    """A query, a dispatch or a question for the schema where nothing is bound."""

    def __init__(self) -> None:
        super().__init__(REMEDY)


class Binding:
    """A tenant, and what is known of it for as long as it is bound."""

    def __init__(self, tenant: Any) -> None:
        self.tenant = tenant
        self.schema_name: str = tenant.schema_name
        #: Django's caches of content types, by model; their ids differ between schemas
        self.content_types: dict[Any, dict[str, Any]] = {}

    @property
    def set_path(self) -> bytes:
        """The statement that lets a transaction find the tenant's tables. Raises ValidationError for a name that no
        schema of a tenant can have.
        """
        return _set_path(self.schema_name, *getattr(settings, "PG_EXTRA_SEARCH_PATHS", []))


@lru_cache(maxsize=10_000)
def _set_path(schema: str, *extra: str) -> bytes:
    if not SCHEMA_NAME.fullmatch(schema):
        raise ValidationError(f"{schema!r} can't be the name of a tenant's schema.")
    # `pg_temp` comes last, by name. Unnamed it would come first, and a temporary table would hide a real one. If there
    # is no such schema, a new table would go to the next one that there is: PostgreSQL lets nobody make one there.
    names = [schema, *extra, "pg_catalog", "pg_temp"]
    return b"SET LOCAL search_path = " + b", ".join(Identifier(name).as_bytes() for name in names)


class Nobody:
    """In the place of a tenant where none is bound, for contexts that restore what was there before."""

    @property
    def schema_name(self) -> str:
        """Raises Unbound."""
        raise Unbound


class Public:
    """In the place of a tenant for `public`."""

    schema_name = "public"


NOBODY = Nobody()
_binding: ContextVar[Binding | None] = ContextVar("tenantry_binding", default=None)
_owner: ContextVar[Owner | None] = ContextVar("tenantry_owner", default=None)


class Block(Owner):
    """A block in which a thread that was given no owner binds something."""


def bind(tenant: Any) -> None:
    """Let this context work for a tenant: a `Tenant`, or whatever has a `schema_name`. NOBODY unbinds."""
    if tenant is NOBODY:
        if isinstance(owner := _owner.get(), Block):
            owner.is_gone = True
        unbind()
    else:
        if _owner.get() is None:
            _owner.set(Block())
        _binding.set(Binding(tenant))


def bind_to_public() -> None:
    """Let this context work on `public`: for the platform's own entry points."""
    bind(Public())


def unbind() -> None:
    """Let this context work for nobody."""
    _binding.set(None)
    if isinstance(_owner.get(), Block):
        _owner.set(None)


def current_owner() -> Owner | None:
    """Whom this context serves."""
    return _owner.get()


def serves_another(owner: Owner | None) -> bool:
    """Whether this context serves another request or task than this one."""
    current = _owner.get()
    return current is not owner and current is not None and not isinstance(current, Block)


def set_owner(owner: Owner | None) -> None:
    """Let this context serve another owner."""
    _owner.set(owner)


def at_home(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function, to be called later with what is bound now."""
    binding = _binding.get()

    @wraps(function)
    def call() -> Any:
        bound = _binding.get()
        _binding.set(binding)
        try:
            return function()
        finally:
            _binding.set(bound)

    return call


def current() -> Binding:
    """What is bound. Raises Unbound."""
    binding = _binding.get()
    if binding is None:
        raise Unbound
    return binding


def bound_tenant() -> Any:
    """The tenant that is bound, or NOBODY."""
    binding = _binding.get()
    return NOBODY if binding is None else binding.tenant


def bound_schema() -> str | None:
    """The schema that is bound, or None."""
    binding = _binding.get()
    return None if binding is None else binding.schema_name


def content_types() -> dict[Any, dict[str, Any]]:
    """The caches of content types of what is bound; of nothing, there are none."""
    binding = _binding.get()
    return {} if binding is None else binding.content_types
