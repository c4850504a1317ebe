"""Fault injection: break training in every known way, at every moment, and check what comes of it.

faults.py lists the kinds, and plan.py draws one for each trial. trial.py runs it under the
supervisor; the ranks run faulty.py, where injector.py strikes at the moments that hooks.py finds
in training. outcome.py reads what a trial has left, and verdict.py judges. This room may use all
others but bench. Start with faults.py.
"""
