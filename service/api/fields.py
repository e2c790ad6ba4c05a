"""Field types that every schema shares, and pydantic's errors as field errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.domain.errors import FieldError
from service.domain.types import Experience

MAX_CHARACTERS = 10_000
OCCUPATION_ID = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"

# Carried by errors that a whole model raises about some of its fields.
_NAMED_FIELDS = "named_fields"


def _storable(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("nul", "must not contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("surrogate", "must not contain lone surrogates") from None
    return value


def _whole(value: object) -> object:
    # To JSON Schema 3.0 is an integer (2020-12 validation, section 6.1.1), and some clients write
    # their integers so.
    return int(value) if isinstance(value, float) and value.is_integer() else value


# What `_storable` asks for, as far as a pattern can say it.
_NO_NUL: dict[str, Any] = {"pattern": "^[^\\u0000]*$"}
Text = Annotated[str, AfterValidator(_storable), Field(json_schema_extra=_NO_NUL)]
LongText = Annotated[
    str,
    Field(max_length=MAX_CHARACTERS, json_schema_extra=_NO_NUL),
    AfterValidator(_storable),
]
Whole = Annotated[int, BeforeValidator(_whole)]

# The two forms of an experience, for who reads the document: the validator below holds them.
_GIVEN: dict[str, Any] = {"type": "string", "pattern": r"\S"}
_NULL = {"type": "null"}
_FORMS: dict[str, Any] = {
    "anyOf": [
        {
            "required": ["text"],
            "properties": {"text": _GIVEN, "title": _NULL, "company": _NULL, "description": _NULL},
        },
        {"required": ["title"], "properties": {"title": _GIVEN, "text": _NULL}},
    ]
}


def field_error(detail: str, *fields: str) -> PydanticCustomError:
    """An error about named fields (``examples/3/label``), raised by a validator of the model."""
    return PydanticCustomError(_NAMED_FIELDS, "{detail}", {"fields": fields, "detail": detail})


class Strict(BaseModel):
    """Base of every schema: no unknown fields, no coercion, no input repeated in errors."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class ExperienceFields(Strict):
    """``text``, or ``title`` with optional ``company`` and ``description``."""

    model_config = ConfigDict(json_schema_extra=_FORMS)

    title: LongText | None = Field(default=None, description="Job title.")
    company: LongText | None = Field(default=None, description="Employer.")
    description: LongText | None = Field(default=None, description="What the person did.")
    text: LongText | None = Field(
        default=None, description="The whole experience in one text, in place of the three."
    )

    @model_validator(mode="after")
    def _one_form(self) -> ExperienceFields:
        if self.text is not None:
            for name in ("title", "company", "description"):
                if getattr(self, name) is not None:
                    raise field_error("give either text, or title, company, description", name)
            if not self.text.strip():
                raise field_error("must not be blank", "text")
            return self
        if self.title is None:
            raise field_error("give text, or title", "text")
        if not self.title.strip():
            raise field_error("must not be blank", "title")
        if len(self.title) + len(self.company or "") + len(self.description or "") > MAX_CHARACTERS:
            raise field_error(f"the experience is over {MAX_CHARACTERS} characters", "description")
        return self

    def experience(self) -> Experience:
        """The experience as the domain knows it."""
        return Experience(self.title, self.company, self.description, self.text)


def field_errors(
    details: Iterable[Mapping[str, Any]], prefix: Sequence[str | int] = ()
) -> tuple[FieldError, ...]:
    """Pydantic's error details as field errors with JSON pointers; inputs are never repeated."""
    found: list[FieldError] = []
    for detail in details:
        pointer = _pointer([*prefix, *detail["loc"]])
        named = detail["ctx"]["fields"] if detail["type"] == _NAMED_FIELDS else ()
        pointers = [f"{pointer}/{name}" for name in named] or [pointer]
        found.extend(FieldError(each, str(detail["msg"])) for each in pointers)
    return tuple(found)


def _pointer(location: Sequence[str | int]) -> str:
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in escaped)
