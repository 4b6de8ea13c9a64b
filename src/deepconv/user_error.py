"""What goes wrong through no fault of the program."""


class UserError(Exception):
    """Something that the user can mend; commands show its one line and exit with status 2."""
