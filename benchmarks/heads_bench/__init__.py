"""The parts of ``benchmarks/heads.py``."""
