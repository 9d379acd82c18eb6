"""Text that is safe to print: control characters are written as escapes."""


def printable(text: str) -> str:
    r"""The text with an escape in place of each character that is not printable: `\x1b`, `\u202e`.

    Names of folders, labels and messages may hold anything, if somebody else made them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
