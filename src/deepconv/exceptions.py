"""Exceptions that end a command without being bugs, and exit statuses."""

import os

USER_ERROR = 2
TRY_AGAIN = os.EX_TEMPFAIL  # 75: a scheduler should run the same command again
INTERRUPTED = 130


class UserError(Exception):
    """A problem that the user can fix; commands print its one line and exit with status 2."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class DivergenceError(UserError):
    """The loss has become NaN or infinite."""


class Preempted(Exception):
    """The run was told to stop by SIGTERM and has been saved; commands exit with status 75."""


class Interrupted(Exception):
    """The run was interrupted by the user and has been saved; commands exit with status 130."""
