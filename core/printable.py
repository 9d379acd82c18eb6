"""Text as it may be shown: what would steer a terminal is written out."""


def printable(text: str) -> str:
    r"""The text with an escape in place of each character that is not to be seen: `\x1b`, `\u202e`.

    Names of folders, labels and messages may hold anything, if somebody else made them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
