"""What goes wrong through no fault of the program."""


class UserError(Exception):
    """Something that the user can mend; commands show its one line and exit with status 2."""


class DivergenceError(UserError):
    """The loss of a run is no longer a finite number."""
