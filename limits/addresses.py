"""Where a request comes from. Limits, logs and log-ins all ask here."""

from ipaddress import IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The address of the client, as the outermost of the NUM_PROXIES trusted proxies saw it.

    Each of them appends to `X-Forwarded-For` whom it talks to; what stands further left is whatever the client says.
    Without a proxy, and where the header holds no address there, it is the other end of the connection.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")
    if settings.NUM_PROXIES == 0:
        return peer
    named = forwarded[-min(settings.NUM_PROXIES, len(forwarded))]
    try:
        return str(ip_address(_without_port(named.strip())))
    except ValueError:
        return peer


def _without_port(address: str) -> str:
    """Some proxies append the client's port, as in `192.0.2.1:4711` and `[2001:db8::1]:4711`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def network_of(address: str) -> str:
    """What an address is counted as: of IPv6 its /64, since one client has a whole one; else the address itself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed) >> 64 << 64, 64)))


def client_network(request: HttpRequest) -> str:
    """Whom limits count for a request: `network_of` its client's address."""
    return network_of(client_address(request))
