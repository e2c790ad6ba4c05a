from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from service.api.exposure import is_loopback, listening_addresses, warn_if_reachable

EVERYWHERE = "0.0.0.0"  # noqa: S104  # an address to recognise


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1"])
def test_a_loopback_address_is_this_machines_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", [EVERYWHERE, "::", "10.0.0.1", "192.168.1.4", "fe80::1", "localhost", "", "127.0.0.1.x"]
)
def test_anything_else_can_be_reached_and_a_name_is_not_trusted(host: str) -> None:
    assert not is_loopback(host)


def test_the_addresses_are_those_of_the_sockets_that_the_process_listens_on() -> None:
    before = listening_addresses()
    with (
        socket.create_server(("127.0.0.1", 0)),
        socket.create_server((EVERYWHERE, 0)),
        socket.socket() as idle,
    ):
        idle.bind(("127.0.0.2", 0))
        assert {"127.0.0.1", EVERYWHERE} <= set(listening_addresses())
        assert "127.0.0.2" not in listening_addresses()
    assert listening_addresses() == before


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/dev/fd").iterdir())


def test_to_look_leaves_no_descriptor_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socketpair()[0]:
        before = descriptors()
        listening_addresses()
        assert descriptors() == before
        # The socket that was looked at still listens.
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@pytest.mark.parametrize(("intended", "level"), [(True, logging.WARNING), (False, logging.ERROR)])
def test_a_reachable_service_without_keys_says_so_loudly_and_why(
    caplog: pytest.LogCaptureFixture, *, intended: bool, level: int
) -> None:
    warn_if_reachable(["127.0.0.1", EVERYWHERE], intended=intended)
    (record,) = caplog.records
    assert record.levelno == level
    assert "OPEN TO EVERYBODY" in record.getMessage()
    assert f"{EVERYWHERE} is not loopback" in record.getMessage()
    assert ("VOCATION_OPEN" in record.getMessage()) == intended


@pytest.mark.parametrize("addresses", [[], ["127.0.0.1"], ["127.0.0.1", "::1"]])
def test_a_service_on_loopback_has_nothing_to_say(
    caplog: pytest.LogCaptureFixture, addresses: list[str]
) -> None:
    warn_if_reachable(addresses, intended=False)
    assert not caplog.records
