"""The exceptions that a user's own mistake raises."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message names the value or the file at fault and what was expected. Commands print it as one
    line and end with status 2; no traceback is shown.
    """


class NotFinite(UserError):
    """Training diverged: a loss or a weight is not a finite number."""
