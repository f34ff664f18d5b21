"""A card gateway that moves no money: it honours idempotency keys and appends each call to a log, as one line of JSON.

    python -m devstack.cards --port 9000 --log cards.jsonl

`POST /charges` with the header `Idempotency-Key` and `{"amount", "currency", "token", "reference", "tenant"}`; tokens:
`tok_ok`, `tok_declined`, `tok_timeout` (charges, but answers only from the second call on), `tok_slow` (2 s).
`GET /charges?key=` lists the calls.
"""

import argparse
import hashlib
import json
import select
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

FIELDS = {"amount": int, "currency": str, "token": str, "reference": str, "tenant": str}
TOKENS = {"tok_ok", "tok_declined", "tok_timeout", "tok_slow"}
SLOW_SECONDS = 2.0
SILENT_SECONDS = 60.0

Json = dict[str, Any]


class Answer(NamedTuple):
    status: HTTPStatus
    body: Json
    outcome: str


class Ledger:
    """Every call so far, in memory and in the log that it is read from again at the next start."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        log.touch(mode=0o600)
        self._calls: list[Json] = [json.loads(line) for line in log.read_text().splitlines()]
        self._charges = {
            call["key"]: _request(call) for call in self._calls if call["outcome"] in ("charged", "declined")
        }

    def charge(self, key: str | None, request: Json) -> Answer:
        """Decides and records in one step, so that of two equal calls at once only one charges."""
        with self._lock:
            answer = self._decide(key, request)
            self._record(key, request, answer.outcome)
        return answer

    def calls(self, key: str | None) -> list[Json]:
        with self._lock:
            return [call for call in self._calls if key in (None, call["key"])]

    def _decide(self, key: str | None, request: Json) -> Answer:
        if not key:
            return _problem(HTTPStatus.BAD_REQUEST, "rejected", "missing_idempotency_key")
        if (earlier := self._charges.get(key)) is not None:
            if earlier != request:
                return _problem(HTTPStatus.CONFLICT, "conflict", "idempotency_key_reused")
            return _answer(key, request)._replace(outcome="replayed")
        if any(type(request[name]) is not kind for name, kind in FIELDS.items()) or request["amount"] <= 0:
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "rejected", "invalid_request")
        if request["token"] not in TOKENS:
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "rejected", "unknown_token")
        self._charges[key] = request
        return _answer(key, request)

    def _record(self, key: str | None, request: Json, outcome: str) -> None:
        call = {"time": datetime.now(UTC).isoformat(), "key": key, **request, "outcome": outcome}
        with self._log.open("a") as log:
            log.write(json.dumps(call) + "\n")
        self._calls.append(call)


def _request(fields: Json) -> Json:
    return {name: fields.get(name) for name in FIELDS}


def _answer(key: str, request: Json) -> Answer:
    """The same for a key at every time and after every restart."""
    charge = f"ch_{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    if request["token"] == "tok_declined":
        body = {"id": charge, "status": "declined", "reason": "card_declined"}
        return Answer(HTTPStatus.PAYMENT_REQUIRED, body, "declined")
    body = {"id": charge, "status": "succeeded", "amount": request["amount"], "currency": request["currency"]}
    return Answer(HTTPStatus.CREATED, body, "charged")


def _problem(status: HTTPStatus, outcome: str, reason: str) -> Answer:
    return Answer(status, {"status": "error", "reason": reason}, outcome)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Gateway"

    def do_POST(self) -> None:
        fields = self._read_json()
        if self.path != "/charges":
            return self._send(HTTPStatus.NOT_FOUND, {"status": "error", "reason": "not_found"})
        request = _request(fields)
        answer = self.server.ledger.charge(self.headers["Idempotency-Key"], request)
        if answer.outcome == "charged" and request["token"] == "tok_timeout":
            return self._stay_silent()
        if answer.outcome == "charged" and request["token"] == "tok_slow":
            time.sleep(SLOW_SECONDS)
        return self._send(answer.status, answer.body)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != "/charges":
            return self._send(HTTPStatus.NOT_FOUND, {"status": "error", "reason": "not_found"})
        key = parse_qs(url.query).get("key", [None])[0]
        return self._send(HTTPStatus.OK, {"results": self.server.ledger.calls(key)})

    def log_message(self, format: str, *args: object) -> None:
        """The ledger is the log."""

    def _read_json(self) -> Json:
        try:
            fields = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)))
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}

    def _send(self, status: HTTPStatus, body: Json) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stay_silent(self) -> None:
        """Until the client hangs up, which makes its socket readable."""
        select.select([self.connection], [], [], SILENT_SECONDS)
        self.close_connection = True


class Gateway(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, log: Path) -> None:
        self.ledger = Ledger(log)
        super().__init__(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Gateway(arguments.port, arguments.log) as gateway:
        print(f"card sink on http://127.0.0.1:{gateway.server_port}", flush=True)
        gateway.serve_forever()
