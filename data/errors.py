"""The exceptions that mean "the user can mend this"."""


class UserError(Exception):
    """A mistake in flags, files or images that the user can mend.

    The message is one sentence that names the file or flag and says what to do. Programs print it
    without a traceback and exit with code 2.
    """


class RefusedError(Exception):
    """A file that is no image of its kind; the message goes on after the file's name: 'is …'."""


def reason(error: BaseException) -> str:
    """First line of another library's error, to be put in brackets inside a `UserError`."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
