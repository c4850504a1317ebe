"""Found before scikit-learn by a sweep that a test starts: importing that takes longer than a run.

`tests/prep` has the digits themselves.
"""
