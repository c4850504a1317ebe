"""A mistake that the user can mend is an exception of its own."""


class UserError(Exception):
    """One clear line for the user: what is wrong, where, and how to mend it.

    Commands print it without a traceback and exit with status 2. Anything else that
    is raised is a fault of the program and keeps its traceback.
    """
