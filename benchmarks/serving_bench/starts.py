"""How long starts take and what an API process holds, with few occupations and with many."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.serving_bench.contenders import ROOT, Contender, start_service
from benchmarks.serving_bench.processes import NotStarted

_LATER_STARTS = 3
_REGISTRATION_SECONDS = 300.0
_EXAMPLES_OF_A_LABEL = 8


def measure_starts(work: Path, template: Path, occupations: int) -> dict[str, Any]:
    """Later starts and memory with the bundled occupations, then with ``occupations`` of them."""
    home = work / "starts-home"
    shutil.copytree(template, home)
    found: dict[str, Any] = {"bundled": _later_starts(work, home)}
    service = start_service("starts", work, home, {})
    try:
        before = len(_ids(service.port))
        started = time.monotonic()
        registered = _register(service.port, max(0, occupations - before))
        seconds = time.monotonic() - started
        count = len(_ids(service.port))
    finally:
        service.tree.stop()
    found["registered"] = {"occupations": registered, "seconds": seconds}
    found["many"] = {**_later_starts(work, home), "occupations": count}
    return found


def _later_starts(work: Path, home: Path) -> dict[str, Any]:
    seconds, memory = [], {}
    for _ in range(_LATER_STARTS):
        begun = time.monotonic()
        service = start_service("starts", work, home, {})
        seconds.append(time.monotonic() - begun)
        try:
            # Every occupation answers once: what a first request loads is counted too.
            body = {"experiences": [{"title": "Data scientist"}]}
            request(service.port, "POST", "/v1/classify", body)
            memory = _api_memory(service)
        finally:
            service.tree.stop()
    return {"start_seconds": median(seconds), "start_seconds_all": seconds, **memory}


def _api_memory(service: Contender) -> dict[str, int]:
    # The API process is the child of one that only waits for its end.
    for member in reversed(service.tree.members()):
        command = " ".join(member.cmdline())
        if "worker.service" in command and "trainer" not in command:
            found = member.memory_full_info()
            return {"api_rss": found.rss, "api_pss": found.pss}
    raise NotStarted("no API process")


def _register(port: int, count: int) -> int:
    for occupation in islice(occupations(), count):
        request(port, "POST", "/v1/occupations", occupation)
    deadline = time.monotonic() + _REGISTRATION_SECONDS
    for state in ("queued", "running"):
        while request(port, "GET", f"/v1/registrations?state={state}&limit=1")["items"]:
            if time.monotonic() > deadline:
                raise NotStarted(f"registrations not done after {_REGISTRATION_SECONDS:g} s")
            time.sleep(0.2)
    return count


def occupations() -> Iterator[dict[str, Any]]:
    """The bundled occupations over and over, under other ids, with 16 examples each."""
    paths = sorted((ROOT / "models" / "occupations").glob("*.yaml"))
    bundled = [yaml.safe_load(path.read_text()) for path in paths]
    for number, occupation in enumerate(cycle(bundled)):
        examples = occupation["examples"]
        chosen = [
            example
            for label in ("in", "out")
            for example in [e for e in examples if e["label"] == label][:_EXAMPLES_OF_A_LABEL]
        ]
        yield {
            "id": f"copy-{number}-{occupation['id']}",
            "name": occupation["name"],
            "prevalence": occupation["prevalence"],
            "examples": chosen,
            "training": {"method": "head"},
        }


def _ids(port: int) -> list[str]:
    items = request(port, "GET", "/v1/occupations?limit=500")["items"]
    return [item["id"] for item in items]


def request(port: int, method: str, path: str, body: Any = None) -> Any:
    """The JSON reply of a running service; raises NotStarted for a status that is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    if reply.status >= 300:
        raise NotStarted(f"{method} {path}: {reply.status} {content[:300]!r}")
    return json.loads(content)
