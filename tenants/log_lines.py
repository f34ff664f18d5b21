"""What a line of a log looks like. It imports nothing of Django: gunicorn's main process writes such lines, too."""

import logging
import os
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any

import structlog


def formatter(*, json: bool | None, told: Sequence[str] = ()) -> logging.Formatter:
    """For JSON, or for people. `json` None means: JSON unless stderr is a terminal.

    A line tells those of its record's extra attributes that are named in `told`.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else _console()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(allow=told),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # JSON escapes what it holds.
            structlog.processors.format_exc_info if as_json else escape_controls,
            renderer,
        ],
    )


def escape_controls(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog's processor: what a client sent begins no line and steers no terminal. Our own words keep their lines.

    Other characters that are not printable are escaped, too, such as those that turn the direction of the text.
    """
    for name, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n\t" if name in ("event", "stack") else ""
            line[name] = "".join(char if char.isprintable() or char in kept else _escaped(char) for char in value)
    return line


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _console() -> structlog.dev.ConsoleRenderer:
    """Colours are for people at a terminal who have not asked for none (https://no-color.org)."""
    in_colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return structlog.dev.ConsoleRenderer(colors=in_colour, exception_formatter=structlog.dev.plain_traceback)
