"""What keeps a run alive: going on from the newest whole state, and noticing ranks that stall.

The supervisor restarts a run that has lost a rank. This room uses `mpi`, `state` and `runs`; it
does not train. Start with resume.py.
"""
