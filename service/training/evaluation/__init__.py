"""Evaluation on labelled experiences: figures with intervals, baselines beside them, one page."""
