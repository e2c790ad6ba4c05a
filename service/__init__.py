"""Vocation: few-shot occupation classifiers, trained from a handful of examples."""

__version__ = "0.1.0"
