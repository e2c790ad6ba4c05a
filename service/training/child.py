"""What every child process of the Trainer does: end when the Trainer has ended."""

from __future__ import annotations

import os
import sys
import threading


def end_with_parent() -> None:
    """End this process as soon as its standard input is closed: a killed parent orphans nobody."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
