"""The name under which an address of the network is counted."""

import ipaddress
import re
from functools import lru_cache

from conversation.settings import is_loopback

#: Under which everything is counted that a proxy reports and that is no address.
UNREADABLE = "no address"

_WITH_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?")
_LONGEST = 64  # characters


@lru_cache(maxsize=1024)
def counted(address: str) -> str | None:
    """Return the name under which an address is counted: an IPv6 address as its /64, which one customer is given.

    A port, which some proxies add, doesn't count. None for this machine, which isn't limited.
    """
    if len(address) <= _LONGEST and (parts := _WITH_PORT.fullmatch(address)):
        address = parts["v6"] or parts["v4"]
    if not address or is_loopback(address):
        return None
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return UNREADABLE
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return counted(str(ip.ipv4_mapped))
        return str(ipaddress.IPv6Network((ip.packed[:8].ljust(16, b"\0"), 64)))
    return str(ip)
