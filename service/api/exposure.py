"""Whether a process that wants no key can be reached from elsewhere, and saying so loudly."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone; a name that is no address is not trusted."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_addresses() -> list[str]:
    """Addresses of the TCP sockets that this process listens on.

    BentoML's supervisor binds and hands the socket down: only the socket itself knows the address.
    """
    found = []
    for descriptor in Path("/dev/fd").iterdir() if Path("/dev/fd").is_dir() else []:
        try:
            if not stat.S_ISSOCK(descriptor.stat().st_mode):
                continue
            held = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            # Closed since the folder was listed, as the descriptor that listed it.
            continue
        with held:
            internet = held.family in (socket.AF_INET, socket.AF_INET6)
            if internet and held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(str(held.getsockname()[0]))
    return sorted(set(found))


def warn_if_reachable(addresses: Sequence[str], *, intended: bool) -> None:
    """Say that whoever reaches these addresses may do everything, when one is not loopback."""
    reachable = [address for address in addresses if not is_loopback(address)]
    if not reachable:
        return
    why = "VOCATION_OPEN allows it" if intended else "the server was told to listen there"
    logger.log(
        logging.WARNING if intended else logging.ERROR,
        "OPEN TO EVERYBODY: no key is configured and %s is not loopback (%s). Whoever reaches it "
        "may classify, register and delete. Create a key to shut it: vocation keys create",
        ", ".join(reachable),
        why,
    )
