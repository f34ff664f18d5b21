"""The message of a task: what it says about the tenant that the task belongs to."""

from collections.abc import Mapping
from typing import Any

#: The message header that says where a task belongs: `{"schema": …}`, and `"durable": True` for a durable job.
HEADER = "tenantry"
#: The option that carries the schema through signatures and `apply_async`. Celery merges the options of a signature and
#: those of the call key by key, so a caller's own headers can't hide it.
OPTION = "tenant_schema"
#: The queue of durable jobs' messages.
QUEUE = "jobs"


def durable_header(schema: str, request_id: str) -> dict[str, Any]:
    """The header of a durable job's message."""
    return {"schema": schema, "durable": True, "request_id": request_id}


def header_of(message: Any) -> dict[str, Any]:
    """Our header in a message's headers, or in the request that was made from them. Empty if it makes no sense."""
    header = message.get(HEADER) if isinstance(message, Mapping) else getattr(message, HEADER, None)
    return header if isinstance(header, dict) else {}


def is_durable(message: Any) -> bool:
    """Whether a message, or the request that was made from it, is that of a durable job."""
    return bool(header_of(message).get("durable"))
