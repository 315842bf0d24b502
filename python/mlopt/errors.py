"""errors -- what fails in the library becomes an exception with the library's message."""


class Error(RuntimeError):
    """A call failed; `tag` is the short name of its status ("shape", "argument", ...)."""

    def __init__(self, text, tag):
        super().__init__(text)
        self.tag = tag


class UnsupportedError(Error):
    """A well-formed model uses something mlopt does not implement."""


def error(library, status, text):
    """The exception for a status; what the status means when there is no text."""
    tag = library.ml_status_tag(status).decode()
    text = text or library.ml_status_text(status).decode()
    return (UnsupportedError if tag == "unsupported" else Error)(text, tag)
