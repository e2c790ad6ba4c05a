"""Benchmarks: accuracy, training, cost and speed; each module is one command."""
