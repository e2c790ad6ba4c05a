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

from service.telemetry.metrics_directory import forget

logger = logging.getLogger(__name__)

# Ends that were asked for: BentoML stops a process with SIGTERM, Ctrl-C is SIGINT, and uvicorn
# raises again, after a graceful end, what it was stopped with.
_ASKED = {signal.SIGTERM, signal.SIGINT}
_WAITED_FOR = {signal.SIGCHLD, signal.SIGTERM}
_PAUSE_ENDS = {signal.SIGALRM, signal.SIGTERM}
# Children that end sooner than this, one after the other, are not ended by chance.
_SHORT_LIFE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 5.0
# BentoML's look, ten seconds, and a start.
_ORPHAN_SECONDS = 20.0
# A graceful stop answers what is in progress: 60 s for a request, 20 s each for its body and for
# an answer that is not read, with the defaults. Containers are given 70 s (deploy/).
_HANGING_SECONDS = 120.0


def serve_in_a_child(
    orphan_seconds: float = _ORPHAN_SECONDS, hanging_seconds: float = _HANGING_SECONDS
) -> None:
    """Return in a child process, each time in another; in the caller's own never.

    To be called in a process of one thread, before an event loop is made. The parent hands SIGTERM
    on, and ends as its last child did (a signal as shells say it, 128 and its number) where that
    was not killed. A child whose parent is gone ends itself, gracefully, after ``orphan_seconds``,
    and is killed where that has not ended it after ``hanging_seconds`` more. Where no process can be
    started now, the parent tries again.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR | _PAUSE_ENDS)
    interrupted = signal.getsignal(signal.SIGINT)
    # A blocked signal that is ignored may be lost (POSIX.1, 2.4.3), and SIGCHLD is by default.
    ended = signal.signal(signal.SIGCHLD, lambda *_: None)
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        born = time.monotonic()
        try:
            child, pipe = _fork()
        except OSError as error:
            logger.warning("no process can be started (%s): another try follows", error.strerror)
        else:
            if child == 0:
                signal.signal(signal.SIGINT, interrupted)
                signal.signal(signal.SIGCHLD, ended)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR | _PAUSE_ENDS)
                outlive = (pipe, orphan_seconds, hanging_seconds)
                threading.Thread(target=_outlive, args=outlive, name="outlive", daemon=True).start()
                return
            # A terminal sends Ctrl-C to the child as well.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            code = _wait(child)
            os.close(pipe)
            logger.warning("the process %d was killed (signal %d): another starts", child, -code)
        if time.monotonic() - born > _SHORT_LIFE_SECONDS:
            pause_seconds = _FIRST_PAUSE_SECONDS
        if _asked_to_end_within(pause_seconds):
            _end(-signal.SIGTERM)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _fork() -> tuple[int, int]:
    """As os.fork(), with an end of a pipe each: the child reads its end when the parent is gone.

    Raises OSError where there is no room for a process or a pipe.
    """
    parent_is_gone, parent_is_there = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(parent_is_gone)
        os.close(parent_is_there)
        raise
    kept, other = parent_is_there, parent_is_gone
    if child == 0:
        kept, other = other, kept
    os.close(other)
    return child, kept


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
            forget(child, os.environ)
            code = os.waitstatus_to_exitcode(status)
            if stopping or code >= 0 or -code in _ASKED:
                _end(code)
            return code


def _asked_to_end_within(seconds: float) -> bool:
    """Wait for SIGTERM, and no longer than so."""
    # sigtimedwait(2) is not to be had on macOS.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return signal.sigwait(_PAUSE_ENDS) == signal.SIGTERM


def _outlive(parent_is_gone: int, orphan_seconds: float, hanging_seconds: float) -> None:
    """Wait for the parent's end, and after some time ask this process to end too, then kill it."""
    os.read(parent_is_gone, 1)
    time.sleep(orphan_seconds)
    # Nobody waits for this process, to do it afterwards.
    forget(os.getpid(), os.environ)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(hanging_seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing that was imported here was ever started.
    os._exit(code if code >= 0 else 128 - code)
