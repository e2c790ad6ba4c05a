"""The machine's clock is set, forwards and backwards, while the service works."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.domain.keys import KeyScope
from service.registry.database import Database
from tests.support.keys import add_key, bearer
from tests.support.measured import Measured
from tests.support.running_service import RunningService, running, wait_for
from tests.support.sommelier import SOMMELIER

SHIM = Path(__file__).parents[1] / "support" / "shifted_clock"
DAY = 86_400
JUMPS = {"a day on": DAY, "back to now": 0, "a day back": -DAY, "a year on": 365 * DAY, "home": 0}
ONE = {"experiences": [{"text": "Cheffe de cuisine", "occupations": ["chef"]}]}


def _register(service: RunningService, id: str, key: str) -> str:
    body: dict[str, Any] = {**SOMMELIER, "id": id, "training": {"method": "head"}}
    reply = service.client.post("/v1/occupations", json=body, headers=bearer(key))
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def _hour(service: RunningService, key: str) -> datetime:
    """The time that the service writes down."""
    reply = service.client.get("/v1/registrations?limit=500", headers=bearer(key))
    newest = max(reply.json()["items"], key=lambda item: item["id"])
    return datetime.fromisoformat(newest["created_at"])


def test_registrations_keys_and_limits_outlive_a_clock_that_is_set(
    tiny_home: Path, tiny_settings: Mapping[str, str], measured: Measured
) -> None:
    registry = Database(f"sqlite:///{tiny_home / 'registry.sqlite'}")
    lasting = add_key(registry, "lasting", KeyScope.ADMIN)
    expires = datetime.now(UTC) + timedelta(hours=1)
    short = add_key(registry, "short", KeyScope.CLASSIFY, expires_at=expires)
    limited = add_key(registry, "limited", KeyScope.CLASSIFY, requests_per_minute=3)
    registry.close()
    offset = tiny_home.parent / "offset"
    offset.write_text("0")
    environment = {
        **tiny_settings,
        "SHIFTED_CLOCK": str(offset),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SHIM), os.environ.get("PYTHONPATH")])),
    }
    with running(tiny_home, environment=environment) as service:
        assert [_status(service, limited) for _ in range(4)] == [200, 200, 200, 429]
        before = service.client.post("/v1/classify", json=ONE, headers=bearer(lasting)).json()
        followed, slowest = [], 0.0
        for number, (name, seconds) in enumerate(JUMPS.items()):
            earlier = [_register(service, f"earlier-{number}-{n}", lasting) for n in range(3)]
            offset.write_text(str(seconds))
            wait_for(f"the key to follow {name}", _answers(service, short, _due(seconds)), 10)
            later = _register(service, f"later-{number}", lasting)
            shift = _hour(service, lasting) - datetime.now(UTC)
            assert number in (1, 2, 4) or abs(shift.total_seconds() - seconds) < 60
            # The bucket refills by a clock that is not set: no jump fills or locks it.
            assert _status(service, limited) in (200, 429)
            service.client.headers.update(bearer(lasting))
            started = time.monotonic()
            followed += [service.follow(registration) for registration in (*earlier, later)]
            slowest = max(slowest, time.monotonic() - started)
            reply = service.client.post("/v1/classify", json=ONE)
            assert reply.json() == before
        assert [item for item in followed if item["state"] != "succeeded"] == []
        assert all(0.0 <= item["progress"] <= 1.0 for item in followed)
        measured("jumps", len(JUMPS), "jumps")
        measured("registrations across them, all succeeded", len(followed), "registrations")
        measured("longest wait for the four of one jump", slowest, "s")


def _status(service: RunningService, key: str) -> int:
    return service.client.post("/v1/classify", json=ONE, headers=bearer(key)).status_code


def _answers(service: RunningService, key: str, status: int) -> Callable[[], bool]:
    return lambda: _status(service, key) == status


def _due(shift_seconds: int) -> int:
    return 401 if shift_seconds > 3600 else 200
