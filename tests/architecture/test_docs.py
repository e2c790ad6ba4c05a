"""The reference pages are held to the code that they describe, and links to what they lead to."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from prometheus_client import Counter, Gauge, Histogram
from pydantic_core import PydanticUndefined

from service.api.access import ACCESS
from service.settings import PROJECT_ROOT, Settings
from service.telemetry import metrics

DOCS = PROJECT_ROOT / "docs"

_FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1`*~*[ \t]*$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$", re.MULTILINE)
# Inline links and images, and definitions of reference links.
_LINK = re.compile(r"\]\(\s*<?([^\s)>]+)>?[^)]*\)|^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)", re.MULTILINE)


def _markdown_files() -> list[Path]:
    """Every page of the project, leaving out what is installed, built or hidden."""
    return [
        page
        for page in sorted(PROJECT_ROOT.rglob("*.md"))
        if not any(
            part.startswith(".") or part == "build" for part in page.relative_to(PROJECT_ROOT).parts
        )
    ]


def _anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page.

    Its rule: the heading's text in lower case, letters, digits, `_`, `-` and spaces kept, each
    space a `-`, and from the second equal one on `-1`, `-2`, ... at the end.
    """
    seen: Tally[str] = Tally()
    anchors = set()
    for heading in _HEADING.findall(_FENCE.sub("", markdown)):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors | set(re.findall(r'<a (?:id|name)="([^"]+)"', markdown))


def _relative_links(markdown: str) -> Iterator[str]:
    text = _INLINE_CODE.sub("", _FENCE.sub("", markdown))
    for inline, definition in _LINK.findall(text):
        target = inline or definition
        if not re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            yield target


def _broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file, or whose anchor in it, is not there."""
    broken = []
    for link in _relative_links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        if not target.exists() or (
            anchor
            and target.suffix == ".md"
            and unquote(anchor) not in _anchors(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    return broken


def _table(page: Path, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with ``first``, cells stripped."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split(" | ")])
    return rows


def _exposed_name(family: str, kind: str) -> str:
    return f"{family}_total" if kind == "counter" else family


def _cells(default: object) -> str:
    if isinstance(default, Path) and default.is_absolute():
        return str(default.relative_to(PROJECT_ROOT))
    return "" if default is None else str(default)


def test_every_metric_is_in_the_table_as_the_code_says() -> None:
    expected = []
    for metric in metrics.ALL:
        family = next(iter(metric.describe()))
        labels = ", ".join(metric._labelnames)
        expected.append(
            [_exposed_name(family.name, family.type), family.type, labels, family.documentation]
        )
    written = [
        [name, kind, labels.replace("`", ""), meaning]
        for name, kind, labels, meaning in _table(DOCS / "metrics.md", "metric")
        if name.startswith("vocation_")
    ]
    assert written == expected


def test_every_metric_of_the_module_is_in_its_list() -> None:
    defined = {
        value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)
    }
    assert defined == set(metrics.ALL)


def test_bentomls_own_metrics_are_in_the_table() -> None:
    names = {row[0] for row in _table(DOCS / "metrics.md", "metric")}
    assert {name for name in names if not name.startswith("vocation_")} == {
        "bentoml_service_request_total",
        "bentoml_service_request_duration_seconds",
        "bentoml_service_request_in_progress",
        "bentoml_service_last_request_timestamp_seconds",
    }


def test_every_setting_is_in_the_table_as_the_code_says() -> None:
    expected = []
    for name, field in Settings.model_fields.items():
        assert field.default is not PydanticUndefined
        variable = f"VOCATION_{name.upper()}"
        expected.append([variable, _cells(field.default), field.description])
    assert _table(DOCS / "settings.md", "variable") == expected


def test_every_route_is_in_the_table_of_scopes_as_the_code_says() -> None:
    expected = [
        [f"{method} {path}", "open" if scope is None else scope.value]
        for (method, path), scope in ACCESS.items()
    ]
    assert _table(DOCS / "security.md", "route") == expected


def test_every_test_that_the_page_of_faults_names_is_there() -> None:
    page = (DOCS / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 25
    for path, test in named:
        assert f"\ndef {test}(" in (PROJECT_ROOT / path).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("page", ["metrics.md", "security.md", "settings.md"])
def test_a_reference_page_begins_with_its_title(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize(
    "page", [str(page.relative_to(PROJECT_ROOT)) for page in _markdown_files()]
)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(page: str) -> None:
    assert _broken_links(PROJECT_ROOT / page) == []


def test_the_pages_that_are_looked_at_have_links_with_anchors() -> None:
    """Or the test above would hold nothing."""
    links = [
        link for page in _markdown_files() for link in _relative_links(page.read_text("utf-8"))
    ]
    assert len(links) > 100
    assert sum("#" in link for link in links) > 10


def test_a_link_to_what_is_not_there_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text(
        "# Other\n\n## Upgrade & roll `back`, (`é`)\n\n## Twice\n\n## Twice\n\n"
        "```sh\n# a comment\n```\n",
        encoding="utf-8",
    )
    page.write_text(
        "# Page\n[a](other.md#upgrade--roll-back-é) [b](other.md#twice-1) [c](#page) [d](other.md)\n"
        "[e](https://example.org/#x) `[f](none.md)`\n"
        "[g](other.md#upgrade) [h](other.md#twice-2) [i](#pages) [j](others.md)\n"
        "[k](other.md#a-comment)\n",
        encoding="utf-8",
    )
    assert _broken_links(page) == [
        "other.md#upgrade",
        "other.md#twice-2",
        "#pages",
        "others.md",
        "other.md#a-comment",
    ]
