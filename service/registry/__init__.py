"""Durable truth: occupations, examples, versions, aliases, registrations and artifacts."""
