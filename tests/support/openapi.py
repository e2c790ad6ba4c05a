"""An OpenAPI document as the judge of replies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker


class Document:
    """Finds the operation of a reply and holds the reply to its schema."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.content = document
        self._templates = [
            (re.compile(re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path)) + r"\Z"), path)
            for path in document["paths"]
        ]

    def validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        """A validator of a schema of this document."""
        resolvable = {**schema, "components": self.content["components"]}
        return Draft202012Validator(resolvable, format_checker=FormatChecker())

    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every operation by method and path template."""
        return {
            (method.upper(), path): operation
            for path, methods in self.content["paths"].items()
            for method, operation in methods.items()
        }

    def judge(self, response: httpx.Response) -> None:
        """Fail unless a reply is one that its operation declares."""
        operation = self._operation(response.request.method, response.request.url.path)
        if operation is None:
            return
        declared = operation["responses"]
        status = str(response.status_code)
        reply = declared.get(status) or declared.get(f"{status[0]}XX")
        assert reply is not None, f"{status} is not declared for {response.request.url.path}"
        if "content" not in reply:
            assert response.content == b""
            return
        media_type = response.headers["content-type"].split(";")[0]
        assert media_type in reply["content"], f"{media_type} is not declared"
        if media_type.endswith("json"):
            self.validator(reply["content"][media_type]["schema"]).validate(response.json())

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, template in self._templates:
            if pattern.match(path):
                found: dict[str, Any] | None = self.content["paths"][template].get(method.lower())
                return found
        return None
