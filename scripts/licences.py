"""Write docs/licences.md: the licence of every package that the service needs at run time.

Run as ``python -m scripts.licences`` in the project's environment, after a change of the pins. The
facts are those of the installed packages' own metadata: nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
# The words of packages' metadata for the licences that may be used: permissive ones, and weak
# copyleft (MPL, LGPL) for packages that are used as they are.
_ALLOWED = {
    "Apache-2.0": (
        "apache-2.0",
        "apache 2.0",
        "apache",
        "apache license 2.0",
        "apache software license",
        "llvm-exception",
    ),
    "MIT": ("mit", "mit license", "mit-cmu", "expat license"),
    "BSD-3-Clause": ("bsd-3-clause", "bsd-3-clause-clear", "bsd license", "3-clause bsd license"),
    "BSD-2-Clause": ("bsd-2-clause",),
    "BSL-1.0": ("bsl-1.0",),
    "CNRI-Python": ("cnri-python",),
    "ISC": ("isc", "isc license"),
    "PSF-2.0": ("psf-2.0", "python software foundation license", "psf", "python-2.0"),
    "MPL-2.0": ("mpl-2.0", "mozilla public license 2.0"),
    "Zlib": ("zlib",),
    "0BSD": ("0bsd",),
    "CC0-1.0": ("cc0-1.0",),
    "ZPL-2.1": ("zpl-2.1",),
    "LGPL-3.0": ("lgpl-3.0-only", "lgpl-3.0-or-later"),
    "HPND": ("hpnd",),
    "Unlicense": ("unlicense", "the unlicense"),
}
ALLOWED = {spelling: name for name, spellings in _ALLOWED.items() for spelling in spellings}


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package and what it says of its licence."""

    name: str
    version: str
    licence: str

    @property
    def unknown(self) -> list[str]:
        """The parts of its licence that are not among the allowed ones."""
        parts = re.split(r"\s+(?:AND|OR|WITH)\s+|[;/]\s*|,\s+", self.licence.strip("() "))
        # "ISC License (ISCL)": the bracket is an abbreviation, or one of an expression.
        plain = [re.sub(r"\s*\(.*\)?$", "", part.strip("() ")).lower() for part in parts]
        return [part for part in plain if part not in ALLOWED]


def run_time_packages(root: str = "vocation") -> list[Package]:
    """Every pinned package that the service needs, by name, without those for development.

    What is not pinned is the platform's: the CUDA libraries of some builds of torch.
    """
    pins = pinned()
    seen: dict[str, Package] = {}
    waiting = list(_required(root, frozenset()))
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in done or name not in pins:
            continue
        done.add((name, extras))
        distribution = metadata.distribution(name)
        version = distribution.version.partition("+")[0]
        seen[name] = Package(name, version, _licence(distribution.metadata))
        waiting.extend(_required(name, extras))
    return [seen[name] for name in sorted(seen)]


def pinned() -> set[str]:
    """The names in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}


def page(packages: list[Package]) -> str:
    """The page in Markdown."""
    rows = "\n".join(f"| {p.name} | {p.version} | {p.licence} |" for p in packages)
    return (
        "# Licences\n\n"
        "What the service needs at run time, as the packages' own metadata say it. "
        "`python -m scripts.licences` writes this page;\n"
        "`.venv/bin/pytest tests/architecture/test_licences.py` holds it to the pins and to the "
        "licences that may be used.\n"
        "The project itself is under the [MIT licence](../LICENSE); the data that ships has notices "
        "of its own ([background](../models/background/NOTICE.md), "
        "[encoder](../models/encoder/NOTICE.md)).\n\n"
        f"| package | version | licence |\n|---|---|---|\n{rows}\n"
    )


def _required(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _licence(said: metadata.PackageMetadata) -> str:
    (expression,) = said.get_all("License-Expression") or [""]
    if expression:
        return str(expression)
    classifiers = [
        line.rsplit(" :: ", 1)[1]
        for line in said.get_all("Classifier") or ()
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    if classifiers:
        return " OR ".join(sorted(classifiers))
    # Some put the whole text of their licence there.
    (text,) = said.get_all("License") or ["not said"]
    return str(text).strip().splitlines()[0]


if __name__ == "__main__":
    PAGE.write_text(page(run_time_packages()))
    print(f"wrote {PAGE.name}")
