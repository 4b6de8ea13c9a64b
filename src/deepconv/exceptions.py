"""What ends a run through no fault of the program."""


class UserError(Exception):
    """Something that the user can mend; commands show its one line and exit with status 2."""


class DivergenceError(UserError):
    """The loss of a run is no longer a finite number."""


class Preempted(Exception):
    """The machine is taken away, and all is saved; commands exit with status 75."""
