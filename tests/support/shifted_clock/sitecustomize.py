"""Shifts the wall clock of a Python process by the seconds that a file holds, while it runs.

Found by Python at its start through PYTHONPATH. Monotonic clocks go on as they are, as on a machine
whose clock is set. The clocks of SQLite and of native threads are not shifted.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any

_FILE = os.environ.get("SHIFTED_CLOCK", "")
_LOOK_SECONDS = 0.02
_time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
_true_datetime = dt.datetime
_seen: dict[str, float] = {"at": -1.0, "offset": 0.0}


def _offset_seconds() -> float:
    now = _monotonic()
    if now - _seen["at"] > _LOOK_SECONDS:
        _seen["at"] = now
        try:
            with open(_FILE) as stream:  # noqa: PTH123  # as little as possible is loaded here
                _seen["offset"] = float(stream.read() or _seen["offset"])
        except (OSError, ValueError):
            pass
    return _seen["offset"]


class _Kind(type):
    # What the standard library makes is a datetime too.
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _true_datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _true_datetime)


class _Shifted(_true_datetime, metaclass=_Kind):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _true_datetime.fromtimestamp(_time() + _offset_seconds(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _true_datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(
            seconds=_offset_seconds()
        )


if _FILE:
    time.time = lambda: _time() + _offset_seconds()
    time.time_ns = lambda: _time_ns() + int(_offset_seconds() * 1e9)
    dt.datetime = _Shifted  # type: ignore[misc]
