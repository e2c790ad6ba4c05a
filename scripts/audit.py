"""Known vulnerabilities of the pinned packages: ``make audit``.

Asks pip-audit about every pin. Where its service cannot be reached, or knows none of the packages,
nothing has been audited: that is said in capitals and is no failure of the change under test.
Ends with 1 where a vulnerability is known, with 2 where ``--required`` is given and something
could not be audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PINS = Path(__file__).parents[1] / "constraints.txt"
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found: each vulnerability as one line, and what could not be asked about."""

    audited: int
    skipped: Sequence[str]
    vulnerable: Sequence[str]


def read_report(report: Mapping[str, Any]) -> Audit:
    """The audit that pip-audit's JSON report tells of."""
    packages = report["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    vulnerable = [
        f"{package['name']} {package['version']}: {known['id']}, fixed in "
        f"{', '.join(known['fix_versions']) or 'no version yet'}"
        for package in packages
        for known in package.get("vulns", ())
    ]
    return Audit(len(packages) - len(skipped), skipped, vulnerable)


def verdict(audit: Audit | None, *, required: bool) -> tuple[list[str], int]:
    """The lines to print and the exit status; None is an audit that did not happen."""
    if audit is None or audit.audited == 0:
        why = "cannot be reached" if audit is None else "knows none of the packages"
        line = f"NOT AUDITED: the service that pip-audit asks {why} here"
        return [line], 2 if required else 0
    lines = [f"audited {audit.audited} packages, {len(audit.vulnerable)} known vulnerabilities"]
    if audit.skipped:
        lines.append(f"NOT AUDITED: {', '.join(audit.skipped)}")
    lines += audit.vulnerable
    if audit.vulnerable:
        return lines, 1
    return lines, 2 if required and audit.skipped else 0


def _run() -> Audit | None:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(_PINS)]
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        ended = subprocess.run(  # noqa: S603  # a command of our own
            [*command, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        return read_report(json.loads(ended.stdout))
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        # No report: the service did not answer.
        return None


if __name__ == "__main__":
    lines, status = verdict(_run(), required="--required" in sys.argv)
    print("\n".join(lines))
    sys.exit(status)
