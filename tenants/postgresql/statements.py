"""What the backend has to know of a statement by its text, and the statements of its own."""

import re
from collections.abc import Callable

import psycopg
import sqlparse
from psycopg import errors

# A comment ends at its first `*/`. A match that could try another one would take twice as long for each comment more.
SPACE = rb"(?:[\s;]|--[^\n]*\n|(?>/\*.*?\*/))"
# A statement that commits. Its reply tells whether PostgreSQL did.
COMMIT = re.compile(rb"%s*(?:COMMIT|END|PREPARE%s+TRANSACTION)\b" % (SPACE, SPACE), re.IGNORECASE | re.DOTALL)
ROLLBACK_TO = re.compile(
    rb"%s*\bROLLBACK%s+(?:(?:WORK|TRANSACTION)%s+)?TO\b" % (SPACE, SPACE, SPACE), re.IGNORECASE | re.DOTALL
)
# A statement that ends the transaction that it is in
END = re.compile(
    rb"%s*(?:COMMIT|END|ABORT|PREPARE%s+TRANSACTION|ROLLBACK(?!%s+(?:(?:WORK|TRANSACTION)%s+)?TO\b))\b"
    % (SPACE, SPACE, SPACE, SPACE),
    re.IGNORECASE | re.DOTALL,
)
# Whether it is worth a closer look
MAY_END = re.compile(rb"\b(?:COMMIT|END|ABORT|TRANSACTION|ROLLBACK)\b", re.IGNORECASE)
# What may follow an end in the same message
NAMES_NOTHING = re.compile(
    rb"%s*(?:$|(?:BEGIN|START%s+TRANSACTION|SET%s+TRANSACTION|SAVEPOINT)\b)" % (SPACE, SPACE, SPACE),
    re.IGNORECASE | re.DOTALL,
)
# Statements that can't be in a transaction, or that end the one that they are in
RUNS_ALONE = re.compile(
    rb"""%s*(?:
        VACUUM | CLUSTER | REINDEX | CALL | DO | DISCARD
        | (?:CREATE | DROP | ALTER) \s+ (?:DATABASE | TABLESPACE | SUBSCRIPTION | SYSTEM)
        | (?:CREATE | DROP) \s+ (?:UNIQUE \s+)? INDEX \s+ CONCURRENTLY
        | ALTER \s+ TABLE [^;]*? CONCURRENTLY
        | (?:COMMIT | ROLLBACK) \s+ PREPARED
    )\b"""
    % SPACE,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
# What PostgreSQL says to them where they share a message with others, behind a pooler
NEEDS_SESSION = (errors.ActiveSqlTransaction, errors.InvalidTransactionTermination)
DIRECT_HINT = (
    "HINT:  A pooler gives each transaction another session here, so nothing can run outside of one. Run the statement "
    "inside `with connection.direct():`, which goes past the pooler by DATABASE_DIRECT_URL."
)
# How PostgreSQL points at what is wrong with a statement
LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)
# What an owner may have left in a session, in a transaction of its own: a ROLLBACK of the next owner must not undo it.
CLEANING = (
    # Whatever it left as the defaults: a deferrable one may wait for others.
    b"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE",
    b"RESET SESSION AUTHORIZATION",
    b"RESET ROLE",
    b"RESET ALL",
    b"CLOSE ALL",
    b"UNLISTEN *",
    b"DEALLOCATE ALL",
    b"SELECT pg_catalog.pg_advisory_unlock_all()",
    b"DISCARD SEQUENCES",
    b"DISCARD TEMP",
    b"COMMIT",
)


def refuse_statements_without_path(message: bytes, refuse_end: Callable[[bytes], None]) -> None:
    """Raise NotSupportedError if a message has more behind a COMMIT, ROLLBACK or ROLLBACK TO SAVEPOINT.

    `refuse_end` gets each of its statements, if one may end the transaction.
    """
    # It would run with the search path of the session, or of the savepoint.
    if not (b";" in message and MAY_END.search(message)):
        return
    ended = ""
    for statement in sqlparse.split(message.decode(errors="replace")):
        text = statement.encode() + b"\n"
        refuse_end(text)
        if ended and not NAMES_NOTHING.match(text):
            raise psycopg.NotSupportedError(f"Send what follows {ended!r} in another call.")
        if END.match(text) or ROLLBACK_TO.match(text):
            ended = statement
