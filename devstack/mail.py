"""A mail server that delivers nothing: it appends each mail to a log, as one line of JSON.

python -m devstack.mail --port 2525 --log mail.jsonl
"""

import argparse
import asyncio
import json
import signal
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session


class Sink:
    def __init__(self, log: Path) -> None:
        self._log = log

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.original_content, bytes)
        mail = message_from_bytes(envelope.original_content, policy=policy.default)
        line = {
            "message_id": mail["Message-ID"],
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": mail["Subject"],
            "body": _text(mail),
            "received_at": datetime.now(UTC).isoformat(),
        }
        with self._log.open("a") as log:
            log.write(json.dumps(line) + "\n")
        return "250 OK"


def _text(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    return part.get_content().replace("\r\n", "\n") if part else ""


async def serve(port: int, log: Path) -> None:
    log.touch(mode=0o600)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(SMTP, Sink(log), enable_SMTPUTF8=True), "127.0.0.1", port)
    print(f"mail sink on smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.log))
