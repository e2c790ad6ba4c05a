"""The users of the service, as Locust runs them.

``locust -f loadtests/locustfile.py --headless --host URL`` drives a service that runs already;
``python -m loadtests`` (``make loadtest``) starts one and judges what its users were given.
With ``VOCATION_LOADTEST_EVENTS`` set, every request is written to that file as a JSON line.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, between, constant_throughput, events, task

from loadtests.profiles import EVENTS, Profiles

KEY = "VOCATION_LOADTEST_KEY"
_SEEDS = itertools.count()
_POLL_SECONDS = 0.2
_REGISTRATION_SECONDS = 60.0
_written: list[str] = []


class Caller(FastHttpUser):
    """Somebody with a stream of profiles of his own, and a key where one is needed."""

    abstract = True

    def on_start(self) -> None:
        """Called by Locust before the first task."""
        self.profiles = Profiles(next(_SEEDS))
        key = os.environ.get(KEY)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def classify(self, name: str, experiences: list[dict[str, Any]]) -> None:
        """Score experiences; a reply that does not answer each of them is a failure."""
        with self.rest("POST", "/v1/classify", json={"experiences": experiences}, name=name,
                       headers=self.headers) as reply:  # fmt: skip
            if reply.status_code != 200:
                reply.failure(f"status {reply.status_code}")
            elif len(reply.js) != len(experiences) or any("error" in item for item in reply.js):
                reply.failure("an experience was not answered")


class Bot(Caller):
    """The scraping bot: whole profiles, one after the other."""

    weight = 4
    wait_time = constant_throughput(2)

    @task
    def score_profile(self) -> None:
        """Score one profile for every occupation."""
        self.classify("bot: profile", self.profiles.profile())


class Team(Caller):
    """Another team: one text at a time."""

    weight = 3
    wait_time = between(0.1, 0.5)

    @task
    def score_text(self) -> None:
        """Score one experience for one occupation."""
        experience = {**self.profiles.experience(), "occupations": ["nurse"]}
        self.classify("team: one text", [experience])


class Researcher(Caller):
    """A researcher: registers an occupation and asks until it answers, while others classify."""

    fixed_count = 1
    wait_time = between(4, 8)

    def on_start(self) -> None:
        """Called by Locust before the first task."""
        super().on_start()
        self.bodies = self.profiles.occupations()

    @task
    def register(self) -> None:
        """Register, follow to the end, score with the new version."""
        body = next(self.bodies)
        started = time.perf_counter()
        with self.rest("POST", "/v1/occupations", json=body, name="researcher: register",
                       headers=self.headers) as reply:  # fmt: skip
            if reply.status_code != 202:
                reply.failure(f"status {reply.status_code}")
                return
            registration = reply.js["id"]
        said = self._follow(registration)
        events.request.fire(
            request_type="JOB",
            name="researcher: until it answers",
            response_time=1000 * (time.perf_counter() - started),
            response_length=0,
            exception=None if said == "succeeded" else RuntimeError(f"registration {said}"),
            context={},
        )
        experience = {**self.profiles.experience(), "occupations": [body["id"]]}
        self.classify("researcher: new occupation", [experience])

    def _follow(self, registration: str) -> str:
        deadline = time.monotonic() + _REGISTRATION_SECONDS
        while time.monotonic() < deadline:
            with self.rest("GET", f"/v1/registrations/{registration}", headers=self.headers,
                           name="researcher: registration") as reply:  # fmt: skip
                state = reply.js["state"] if reply.status_code == 200 else "unknown"
            if state in ("succeeded", "failed", "cancelled"):
                return str(state)
            gevent.sleep(_POLL_SECONDS)
        return "not ended"


if EVENTS in os.environ:

    @events.request.add_listener  # type: ignore[untyped-decorator]
    def note(name: str, response_time: float, exception: object, **_: object) -> None:
        """Called by Locust after each request."""
        row = {
            "at": time.time(),
            "name": name,
            "milliseconds": response_time,
            "failed": exception is not None,
        }
        _written.append(json.dumps(row))

    @events.quitting.add_listener  # type: ignore[untyped-decorator]
    def write(**_: object) -> None:
        """Called by Locust at the end."""
        Path(os.environ[EVENTS]).write_text("\n".join(_written))
