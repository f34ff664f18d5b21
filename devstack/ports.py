"""TCP ports on the loopback interface."""

import random
import socket

# Below the range from which systems take the ports of outgoing connections: a restarted server finds its port free.
SERVER_PORTS = range(20000, 32768)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    return next(port for port in random.sample(SERVER_PORTS, 200) if is_free(port))


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
