"""What ranks do together: wait, sum, tell each other, and fail as one.

`collectives` has the calls that all ranks make at once, `command` how a command starts and ends
on all of them, `mpirun` which mpirun starts them, and `host` what messages call one. This room uses
`base` only. Start with collectives.py.
"""
