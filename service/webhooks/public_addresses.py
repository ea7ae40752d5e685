"""Decide whether an IP address belongs to the public internet.

The tables are the IANA special-purpose registries (RFC 6890 and its successors), every entry of them, also
those that are globally reachable: none of them is a place where a webhook's receiver lives. IPv6 outside of
2000::/3 is not allocated for unicast, so only that block is public at all.
"""

from __future__ import annotations

import ipaddress

_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # shared address space of carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; metadata services of clouds
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # IETF protocol assignments, with 192.0.0.8 (dummy) and 192.0.0.9, .10 (anycast)
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relay anycast, deprecated
        "192.168.0.0/16",  # private use
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, limited broadcast
        "168.63.129.16/32",  # Azure's host services answer here, from inside only
    )
)
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocol assignments: Teredo, ORCHID, benchmarking and others
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, deprecated: any IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 of the internet, as seen through DNS64


def is_public(address: str) -> bool:
    """Return True for a unicast address of the public internet; a zone (`%eth0`) is ignored.

    IPv4 inside IPv6 is judged by the inner address where a network may really route it (IPv4-mapped, NAT64);
    every other embedding is refused. Raises ValueError for text that is no address.
    """
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in block for block in _SPECIAL_V4)
    inner = ip.ipv4_mapped
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    if ip not in _UNICAST_V6 or any(ip in block for block in _SPECIAL_V6):
        return False
    # ISATAP: an IPv4 address in the last 32 bits behind ::0:5efe or ::200:5efe.
    return (int(ip) >> 32) & 0xFDFFFFFF != 0x00005EFE
