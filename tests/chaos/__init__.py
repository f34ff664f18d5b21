"""Chaos: the whole product as real processes, broken on purpose under load; then every job is counted.

`python -m tests.chaos` (`make chaos`) plays the scenarios in full, `test_scenarios.py` in short, and `python -m
tests.chaos.mutants` (`make chaos-mutants`) shows that each counter goes up when the product is broken. The
driver shares no code with the product: it reads the database and the sinks' logs.
"""
