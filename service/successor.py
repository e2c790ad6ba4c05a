"""A killed worker has a successor at once, in place of at BentoML's next look.

BentoML's supervisor looks after its processes every ten seconds. So a process that it starts forks
once everything is imported: the child works, and the parent only waits for its end. A child that
was killed is replaced by another; connections wait meanwhile in the listening socket, which the
supervisor holds. A parent that is killed leaves a child that works on until the supervisor's
replacement has had the time to start.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

from prometheus_client.multiprocess import mark_process_dead

logger = logging.getLogger(__name__)

# Ends that were asked for: BentoML stops a process with SIGTERM, Ctrl-C is SIGINT, and uvicorn
# raises again, after a graceful end, what it was stopped with.
_ASKED = {signal.SIGTERM, signal.SIGINT}
_WAITED_FOR = {signal.SIGCHLD, signal.SIGTERM}
# Children that end sooner than this, one after the other, are not ended by chance.
_SHORT_LIFE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 5.0
# BentoML's look, ten seconds, and a start.
_ORPHAN_SECONDS = 20.0


def serve_in_a_child(orphan_seconds: float = _ORPHAN_SECONDS) -> None:
    """Return in a child process, each time in another; in the caller's own never.

    To be called in a process of one thread, before an event loop is made. The parent hands SIGTERM
    on, and ends as its last child did (a signal as shells say it, 128 and its number) where that
    was not killed. A child whose parent is gone ends itself, gracefully, after so many seconds.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    interrupted = signal.getsignal(signal.SIGINT)
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        born = time.monotonic()
        parent_is_gone, parent_is_there = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(parent_is_there)
            signal.signal(signal.SIGINT, interrupted)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
            outlive = (parent_is_gone, orphan_seconds)
            threading.Thread(target=_outlive, args=outlive, name="outlive", daemon=True).start()
            return
        os.close(parent_is_gone)
        # A terminal sends Ctrl-C to the child as well.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = _wait(child)
        os.close(parent_is_there)
        logger.warning("the process %d was killed (signal %d): another starts", child, -code)
        _forget(child)
        if time.monotonic() - born > _SHORT_LIFE_SECONDS:
            pause_seconds = _FIRST_PAUSE_SECONDS
        if signal.sigtimedwait({signal.SIGTERM}, pause_seconds) is not None:
            _end(-signal.SIGTERM)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _wait(child: int) -> int:
    """The signal, negative, that killed the child; where it ended otherwise, end as it did."""
    stopping = False
    while True:
        if signal.sigwait(_WAITED_FOR) == signal.SIGTERM:
            stopping = True
            os.kill(child, signal.SIGTERM)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if stopping or code >= 0 or -code in _ASKED:
                _end(code)
            return code


def _outlive(parent_is_gone: int, orphan_seconds: float) -> None:
    """Wait for the parent's end, and after some time ask this process to end too."""
    os.read(parent_is_gone, 1)
    time.sleep(orphan_seconds)
    os.kill(os.getpid(), signal.SIGTERM)


def _forget(child: int) -> None:
    """Take the dead child's part out of the gauges that count what is there."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(child)  # type: ignore[no-untyped-call]  # theirs


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing that was imported here was ever started.
    os._exit(code if code >= 0 else 128 - code)
