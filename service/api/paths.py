"""The table of paths: bounded metric labels, and the methods that an address has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

UNKNOWN_PATH = "/{unknown}"


class PathTable:
    """Maps a path to its route's template, so that a label has few values whatever is asked."""

    def __init__(self, routes: Mapping[str, Sequence[str]]) -> None:
        self._methods = {template: sorted(methods) for template, methods in routes.items()}
        self._patterns = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", template)), template)
            for template in routes
            if "{" in template
        ]

    def label(self, path: str) -> str:
        """The template of a path, or one label for every path that is not ours."""
        if path in self._methods:
            return path
        for pattern, template in self._patterns:
            if pattern.fullmatch(path):
                return template
        return UNKNOWN_PATH

    def methods(self, label: str) -> Sequence[str]:
        """The methods of a template."""
        return self._methods.get(label, ())
