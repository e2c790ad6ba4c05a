"""Licences of what is used at run time, and what the audit of the pins says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from scripts.audit import read_report, verdict
from scripts.licences import PAGE, Package, page, pinned, run_time_packages

PACKAGES = run_time_packages()


def test_each_package_has_a_licence_that_may_be_used() -> None:
    assert {p.name: p.unknown for p in PACKAGES if p.unknown} == {}


def test_the_page_lists_what_is_pinned() -> None:
    # Written on one version of Python, read on three: another needs a package less.
    assert set(page(PACKAGES).splitlines()) <= set(PAGE.read_text().splitlines())
    assert {"bentoml", "torch", "setfit", "dbos", "onnxruntime"} <= {p.name for p in PACKAGES}
    assert {p.name for p in PACKAGES} <= pinned()


@pytest.mark.parametrize(
    ("licence", "unknown"),
    [
        ("MIT", []),
        ("Apache-2.0 WITH LLVM-exception AND (MIT OR BSD-3-Clause)", []),
        ("ISC License (ISCL)", []),
        ("GPL-3.0-only", ["gpl-3.0-only"]),
        ("MIT AND AGPL-3.0", ["agpl-3.0"]),
        ("not said", ["not said"]),
        ("", [""]),
    ],
)
def test_a_licence_that_is_not_listed_is_named(licence: str, unknown: list[str]) -> None:
    assert Package("x", "1", licence).unknown == unknown


def _report(*packages: Mapping[str, Any]) -> dict[str, Any]:
    return {"dependencies": [{"name": "x", "version": "1", **package} for package in packages]}


KNOWN: dict[str, Any] = {"vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "y", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("report", "required", "status", "said"),
    [
        (_report({"vulns": []}), False, 0, "audited 1 packages, 0 known"),
        (_report(KNOWN), False, 1, "x 1: PYSEC-1, fixed in 2"),
        (_report(KNOWN, SKIPPED), False, 1, "NOT AUDITED: y"),
        (_report({"vulns": []}, SKIPPED), False, 0, "NOT AUDITED: y"),
        (_report({"vulns": []}, SKIPPED), True, 2, "NOT AUDITED: y"),
        (_report(SKIPPED), False, 0, "knows none of the packages"),
        (_report(SKIPPED), True, 2, "NOT AUDITED"),
        (None, False, 0, "cannot be reached"),
        (None, True, 2, "cannot be reached"),
    ],
)
def test_what_could_not_be_audited_never_passes_for_audited(
    report: dict[str, Any] | None, *, required: bool, status: int, said: str
) -> None:
    audit = read_report(report) if report is not None else None
    lines, ended = verdict(audit, required=required)
    assert ended == status
    assert said in "\n".join(lines)
