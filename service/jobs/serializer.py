"""The one serializer of both sides: JSON, so that nothing is ever unpickled from the database."""

from __future__ import annotations

from dbos import DBOSPortableJSONSerializer

SERIALIZER = DBOSPortableJSONSerializer()
