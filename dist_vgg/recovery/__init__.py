"""What keeps a run alive when something breaks.

Three parts: a run goes on from its newest whole state (resume, host_memory), a watchdog ends a
job in which a rank stalls (watchdog, board, peer_hosts), and a supervisor outside MPI starts the
job again (supervisor, its options, hosts, job, monitor, ending and event_log). This room uses
`mpi`, `state` and `runs`; it does not train. Start with supervisor.py.
"""
