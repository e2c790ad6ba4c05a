"""What every child process of the Trainer does: end when the Trainer has ended, and say why."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from collections.abc import Iterator

# Exit statuses. What was asked for cannot be done; there is no room for the files; the encoder
# cannot be used. The last line of standard error is for the user. Any other status is a fault.
REFUSED = 3
NO_ROOM = 4
UNUSABLE = 2

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How libraries in Rust (safetensors, tokenizers) word an error of the system, which is no OSError.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def end_with_parent() -> None:
    """End this process as soon as its standard input is closed: a killed parent orphans nobody."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def no_room(error: BaseException) -> str | None:
    """The system's words when an error comes from a full disk or a quota, else None."""
    for cause in _causes(error):
        found = _SYSTEM_ERROR.search(str(cause))
        number = cause.errno if isinstance(cause, OSError) else int(found[1]) if found else None
        if number in _FULL:
            return os.strerror(number)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
