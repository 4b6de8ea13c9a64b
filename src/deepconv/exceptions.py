"""Exceptions that end a command without being bugs, and exit statuses."""

import os

USER_ERROR = 2
TRY_AGAIN = os.EX_TEMPFAIL  # 75: a scheduler should run the same command again
INTERRUPTED = 130


class UserError(Exception):
    """A problem that the user can fix; commands print its one line and exit with status 2."""


class DivergenceError(UserError):
    """The loss has become NaN or infinite."""


class Preempted(Exception):
    """The run was told to stop by SIGTERM and has been saved; commands exit with status 75."""


class Interrupted(Exception):
    """The run was interrupted by the user and has been saved; commands exit with status 130."""
