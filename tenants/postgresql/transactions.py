"""Which transaction the running code is in, if another thread goes on with its context."""

from contextvars import ContextVar


class OpenTransaction:
    """A transaction, for contexts that it is open in. Its connection says when it is over.

    `outer` is the one that was open before it, on another database.
    """

    def __init__(self, alias: str, outer: "OpenTransaction | None") -> None:
        while outer is not None and outer.over:
            outer = outer.outer
        self.alias = alias
        self.outer: OpenTransaction | None = outer
        self.over: bool = False


#: The transaction that this context, or the one that it is a copy of, has begun.
open_transaction: ContextVar[OpenTransaction | None] = ContextVar("tenantry_open_transaction", default=None)
#: The one from which separate_transaction() keeps apart what is written here
kept_apart_from: ContextVar[OpenTransaction | None] = ContextVar("tenantry_kept_apart_from", default=None)
