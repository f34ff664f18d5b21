"""A durable job's arguments and links, as the text that its row keeps."""

from typing import Any

from kombu.utils.json import dumps, loads


def encode(value: Any) -> str:
    """JSON text of a value. Raises TypeError for what JSON can't hold."""
    try:
        return str(dumps(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"A durable job's arguments are ids and plain values: {error}.") from error


def decode(text: str) -> Any:
    """The value that `encode` made the text from."""
    return loads(text)
