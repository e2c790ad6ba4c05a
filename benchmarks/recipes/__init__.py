"""The recipes that `benchmarks.heads` compares: few-shot families on a frozen encoder.

Families that only rank (a prototype, nearest neighbours, the occupation's name) are calibrated and
given a threshold as the served head is, from held-out scores, so that their F1 can be compared
with it. Without any example there is nothing to calibrate on: there the threshold is the score
that the declared share of the background exceeds, and no probability is claimed.
"""
