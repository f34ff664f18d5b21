"""TLS for servers of tests: a certificate that no known authority has signed, and a proxy that ends TLS."""

import select
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The host that the certificate is for, and another name of the same one, which it is not for.
HOST, OTHER_NAME = "127.0.0.1", "127.1"


def make_certificate(folder: Path) -> Path:
    """Its key is beside it, with the suffix `.key`. `@pytest.mark.needs("openssl")`."""
    file = folder / "certificate.pem"
    subject = ["-subj", "/CN=server", "-addext", f"subjectAltName=IP:{HOST}"]
    keys = ["-nodes", "-newkey", "rsa:2048", "-keyout", str(file.with_suffix(".key"))]
    subprocess.run(["openssl", "req", "-x509", *keys, *subject, "-out", str(file)], check=True, capture_output=True)
    return file


@contextmanager
def tls_proxy(target: int, certificate: Path) -> Iterator[int]:
    """The port at which TLS is spoken, on behalf of the server at the port `target`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    class Link(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # A client that does not trust the certificate leaves in the middle of the handshake.
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((HOST, target)) as server,
            ):
                _pass_on(client, server)

    with socketserver.ThreadingTCPServer((HOST, 0), Link) as proxy:
        threading.Thread(target=proxy.serve_forever, args=[0.05]).start()
        yield proxy.server_address[1]
        proxy.shutdown()


def _pass_on(*ends: socket.socket) -> None:
    """Until one of the two closes."""
    other = dict(zip(ends, reversed(ends), strict=True))
    while True:
        readable, _, _ = select.select(ends, [], [])
        for end in readable:
            if not (chunk := end.recv(65536)):
                return
            other[end].sendall(chunk)
