"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in flags, files or images that the user can mend.

    The message is one sentence that names the file or flag and says what to do. Programs print it
    without a traceback and exit with code 2.
    """
