"""The development tasks of few-shot heads: embedded training rows, drawn and judged."""
