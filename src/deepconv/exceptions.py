"""What ends a run through no fault of the program."""

import os

USER_ERROR = 2
TRY_AGAIN = os.EX_TEMPFAIL  # 75: for a scheduler, which has only to start the same command again
INTERRUPTED = 130


class UserError(Exception):
    """Something that the user can mend; commands show its one line and exit with status 2."""


class DivergenceError(UserError):
    """The loss of a run is no longer a finite number."""


class Preempted(Exception):
    """The machine is taken away, and all is saved; commands exit with status 75."""


class Interrupted(Exception):
    """The user has told the run to stop, and all is saved; commands exit with status 130."""
