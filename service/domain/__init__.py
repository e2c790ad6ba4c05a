"""Plain types and errors: standard library only, imported by every other layer."""
