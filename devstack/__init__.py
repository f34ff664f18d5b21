"""Servers for machines that have none: PostgreSQL, Valkey, a mail sink and a card sink, for `make run` and `make test`.

Nothing of the product imports this package. Commands: `python -m devstack --help`.
"""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


class DevstackError(Exception):
    """What went wrong and the remedy, in words for the person at the terminal; printed without a traceback."""
