"""gunicorn's configuration, and its worker: `gunicorn -c config/gunicorn.py config.wsgi`.

A client costs its own connection, however slowly it sends and reads. Greenlets talk to clients, and never wait for the
application. A few threads run the application, and never wait for a client: a thread gets a request that is there
whole, and an answer is sent when its thread has another request already. Nothing is patched, so psycopg and whatever
else the application uses is what it is anywhere.

docs/decisions/0027-a-slow-client.md has what other servers did.
"""

import errno
import logging
import resource
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import gevent
from gevent import socket
from gevent.threadpool import ThreadPool
from gunicorn import glogging
from gunicorn.http import wsgi
from gunicorn.util import close_graceful
from gunicorn.workers.ggevent import GeventWorker

import environment as env
from tenants.log_lines import formatter

# Of all processes together
DB_CONNECTIONS = env.integer("WEB_DB_CONNECTIONS", default=8, at_most=10_000)
# Seconds for a whole request, whatever its client does: a quarter of them for its head, half for its body, and a
# quarter to throw away what follows a refusal. An answer has as long for each block.
REQUEST_SECONDS = env.number("WEB_REQUEST_SECONDS", default=20, at_least=1, at_most=3600)
HEAD_SECONDS = REQUEST_SECONDS / 4
BODY_SECONDS = REQUEST_SECONDS / 2
LINGER_SECONDS = REQUEST_SECONDS / 4
# Seconds; at SIGTERM, for what waits to be accepted
ACCEPT_SECONDS = 0.5
# Seconds; how often a connection without a request looks whether the process stops
IDLE_SECONDS = 2
# Bytes. What is larger than a block is in a temporary file, so that a client takes little memory.
BODY_BLOCK = 16 * 1024
# Of a chunked body. Each byte of it may be a chunk of its own, which takes the parser some microseconds.
CHUNKED_BLOCK = 1024
ANSWER_BLOCK = 64 * 1024
MAX_ANSWER = 64 * 1024 * 1024
# They say how the process is, so they do not wait until one of the threads is free: each has a thread of its own.
HEALTH = ("/livez", "/readyz")


class AnswerTooLarge(Exception):
    """An answer is made whole before it is sent, so it must have an end."""


class NoClient:
    """Takes the page by which gunicorn would tell a client of an error."""

    def gettimeout(self) -> float:
        return 0

    def sendall(self, page: bytes) -> None:
        pass


class Logger(glogging.Logger):
    """gunicorn's, whose lines look like those of the application: those of the main process, too."""

    def setup(self, cfg: Any) -> None:
        """As gunicorn's."""
        super().setup(cfg)
        lines = formatter(json=env.flag("LOG_JSON", default=None))
        for handler in [*self.error_log.handlers, *self.access_log.handlers]:
            handler.setFormatter(lines)
        logging.captureWarnings(True)  # Python's own are lines of the log, too


class Worker(GeventWorker):
    """gunicorn's worker for gevent, with deadlines for clients and threads for the application."""

    sockets: list[Any]
    alive: bool

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Never without a deadline for a request's head: gunicorn has none where it keeps no connection."""
        cfg.set("keepalive", max(1, cfg.keepalive))

    def patch(self) -> None:
        """As gunicorn's, without patching the standard library."""
        self.sockets = [
            socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]

    def load_wsgi(self) -> None:
        """As gunicorn's; each thread has a database connection, however many processes the command line asks for."""
        super().load_wsgi()
        self._threads = ThreadPool(max(1, min(self.cfg.threads, DB_CONNECTIONS // self.cfg.workers)))
        self._health = {path: ThreadPool(1) for path in HEALTH}
        # Connections between two requests. They take no more than half of the places.
        self._idle = 0

    def timeout_ctx(self) -> gevent.Timeout:
        """For a request's head. It raises nothing: gunicorn takes no request for the connection's end."""
        return gevent.Timeout(HEAD_SECONDS, False)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM. The system resets what waits in a listener that is closed, so first let it be accepted."""
        gevent.spawn_later(ACCEPT_SECONDS, super().handle_exit, sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """gunicorn logs what it refuses, or fails at. The client hears of it in the form of all other problems."""
        from config.server_refusals import answer_to  # see _receive

        super().handle_error(req, NoClient(), addr, exc)
        with suppress(OSError):
            client.settimeout(LINGER_SECONDS)
            client.sendall(answer_to(exc))
        _close_slowly(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer a request, and wait for the client's next one. Raises StopIteration to close the connection."""
        began = datetime.now()
        sock.settimeout(REQUEST_SECONDS)
        resp, environ = None, {}
        try:
            self.cfg.pre_request(self, req)
            if _is_too_large(req):
                req._expected_100_continue = False  # its refusal takes the place of `100 Continue`
            resp, environ = wsgi.create(req, sock, addr, listener_name, self.cfg)
            environ["wsgi.multithread"] = True
            with SpooledTemporaryFile(BODY_BLOCK) as body, SpooledTemporaryFile(ANSWER_BLOCK) as answer:
                is_read = self._receive(body, req, environ)
                self._count_request()
                if not (is_read and self.alive and self._idle < self.worker_connections // 2):
                    resp.force_close()
                self._run(answer, environ, resp.start_response, sock)
                self._send(answer, resp)
            self.log.access(resp, req, environ, datetime.now() - began)
        except gevent.GreenletExit:
            raise StopIteration from None  # the process has stopped for as long as it may
        finally:
            self.cfg.post_request(self, req, environ, resp)
        if not is_read:
            _close_slowly(sock)
        if resp.should_close():
            raise StopIteration
        self._await_request(req, sock)

    def _receive(self, body: IO[bytes], req: Any, environ: dict[str, Any]) -> bool:
        """Write the request's body to where the application reads it. False if it was not read to its end: the
        application refuses it by its headers, or is told that it came too late.
        """
        # Not at the top: gunicorn's main process, too, would import Celery and all that.
        from config.bodies import IS_LATE, MAX_BYTES

        source, environ["wsgi.input"] = environ["wsgi.input"], body
        if _is_too_large(req):
            return False
        with gevent.Timeout(BODY_SECONDS, False):
            size = BODY_BLOCK if environ.get("CONTENT_LENGTH") else CHUNKED_BLOCK
            while body.tell() <= MAX_BYTES and (block := source.read(size)):
                body.write(block)
                gevent.sleep(0)  # other clients come in between, however fast this one sends
            is_whole = body.tell() <= MAX_BYTES
            body.seek(0)
            return is_whole
        environ[IS_LATE] = True
        return False

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _run(self, answer: IO[bytes], environ: dict[str, Any], start_response: Callable[..., Any], sock: Any) -> None:
        """Let a thread write the answer, and wait for it. Raises ConnectionResetError if the client has gone."""
        _refuse_reset(sock)
        threads = self._health.get(environ["PATH_INFO"], self._threads)
        error = threads.apply(self._write, (answer, environ, start_response, sock))
        if error is not None:
            raise error
        answer.seek(0)

    def _write(
        self, answer: IO[bytes], environ: dict[str, Any], start_response: Callable[..., Any], sock: Any
    ) -> BaseException | None:
        """In a thread. What is raised, it returns: gevent would print it, and end the process for a SystemExit."""
        try:
            _refuse_reset(sock)  # the request may have waited for the thread
            with closing(self.wsgi(environ, start_response)) as response:
                for chunk in response:
                    if answer.tell() + len(chunk) > MAX_ANSWER:
                        raise AnswerTooLarge(f"{environ['PATH_INFO']}: over {MAX_ANSWER} bytes. Let a job make it.")
                    answer.write(chunk)
        except BaseException as error:
            return error
        return None

    def _send(self, answer: IO[bytes], resp: Any) -> None:
        try:
            for block in iter(partial(answer.read, ANSWER_BLOCK), b""):
                resp.write(block)
            resp.close()
        except TimeoutError:
            self.log.info("A client did not read its answer in time.")
            raise StopIteration from None

    def _await_request(self, req: Any, sock: Any) -> None:
        """Return when the next request begins. Raises StopIteration if it does not."""
        deadline = time.monotonic() + self.cfg.keepalive
        sock.settimeout(IDLE_SECONDS)
        self._idle += 1
        try:
            while not req.unreader.buf.getvalue():  # what came along with the last one
                try:
                    if sock.recv(1, socket.MSG_PEEK):
                        return
                    raise StopIteration
                except TimeoutError:
                    if not self.alive or time.monotonic() > deadline:
                        raise StopIteration from None
        finally:
            self._idle -= 1


def _is_too_large(req: Any) -> bool:
    """Whether the application refuses the body by the length that it shall have."""
    from config.bodies import MAX_BYTES

    return int(dict(req.headers).get("CONTENT-LENGTH") or 0) > MAX_BYTES


def _refuse_reset(sock: Any) -> None:
    """Raise ConnectionResetError if the client has reset the connection. One that has ended its side still reads."""
    # It waits for nothing, unlike a read, and tells of a reset behind bytes that are still unread.
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise ConnectionResetError(errno.ECONNRESET, "The client has reset the connection.")


def _close_slowly(sock: Any) -> None:
    """What comes after a close is answered with a reset, which may overtake the refusal."""
    close_graceful(sock, LINGER_SECONDS, MAX_ANSWER)


# gunicorn's settings. Its command line and GUNICORN_CMD_ARGS win.

worker_class = Worker
logger_class = Logger
workers = min(env.integer("WEB_CONCURRENCY", default=2, at_most=1000), DB_CONNECTIONS)
# Of each process. So many requests run at a time, each with a database connection; the others wait.
threads = DB_CONNECTIONS // workers
# Clients that a process is connected to at a time; the others wait. Each takes three files: socket, body and answer.
worker_connections = 2000
_files, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
if _most_files != resource.RLIM_INFINITY:
    worker_connections = min(worker_connections, (_most_files - 200) // 3)
if 0 <= _files < 3 * worker_connections + 200:  # RLIM_INFINITY may be -1
    resource.setrlimit(resource.RLIMIT_NOFILE, (3 * worker_connections + 200, _most_files))
# Seconds between two requests. Heroku's router keeps a connection for 90, and must not meet one that has just ended.
keepalive = 95
# Seconds at SIGTERM for what is under way. Heroku kills after 30.
graceful_timeout = 25
# Which request came by TLS is decided by BEHIND_TLS_PROXY alone. By default gunicorn believes three headers of whoever
# connects from 127.0.0.1, or from FORWARDED_ALLOW_IPS.
secure_scheme_headers: dict[str, str] = {}
# By default gunicorn takes SCRIPT_NAME and PATH_INFO from the headers of whoever connects from 127.0.0.1.
forwarder_headers = ""
# Whoever may signal the main process can do the same.
control_socket_disable = True
