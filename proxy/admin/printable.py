"""Bytes of clients, files and databases as text that cannot move an operator's cursor."""


def printable(text: bytes | str) -> str:
    """Escapes for what is no visible character: controls, what turns the direction of text, bytes that are no UTF-8."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
