"""Read and change gpg-agent.conf as text, so that everything else in it stays byte for byte where it was. No I/O.

What gpg-agent 2.2.40 makes of a line was measured (tests/test_setup_agent_conf.py): only a line feed ends it; white
space around it is nothing; ``#`` begins a comment at the start of a line only; the name ends at white space; the value
is the whole rest, spaces included, and loses a quotation mark at its beginning and end; of a name that stands twice the
last one counts; a name without its value does nothing.
"""

from collections.abc import Mapping

MAX_FILE = 256 << 10  # bytes; a gpg-agent.conf of somebody who explains every option has some ten thousand
REPLACED = b"# replaced by unlatch setup: "
_SPACE = b" \t\r\x0b\x0c"  # isspace(3) without the end of line


def values(text: bytes) -> dict[str, str]:
    """The options that count, by name; those without an argument have the value ""."""
    found = {}
    for line in text.split(b"\n"):
        name, value = _option(line)
        if value or (name and name not in found):
            found[name] = value
    return found


def edit(text: bytes, wanted: Mapping[str, str]) -> bytes:
    """The text with these options set, for ever the same when done again.

    An option that counts already as wanted is left alone. A line that says something else becomes a comment that tells
    so, and the new line stands below it; without such a line it is added at the end. Line ends stay of the kind they
    are, and a missing last one stays missing.

    Raises:
        ValueError: gpg-agent could not read an option back as it is wanted, or the text is none (a NUL byte).
    """
    if b"\0" in text:
        raise ValueError("the file is no text: it has a NUL byte")
    for name, value in wanted.items():
        if not name or "\n" in value or _option(_line(name, value)) != (name, value):
            raise ValueError(f"gpg-agent could not read this value of {name}")
        if values(text).get(name) != value:
            text = _set(text, name, _line(name, value))
    return text


def _set(text: bytes, name: str, new: bytes) -> bytes:
    end = b"\r\n" if b"\r\n" in text else b"\n"
    lines = text.split(b"\n")
    mine = [number for number, line in enumerate(lines) if _option(line)[0] == name]
    for number in mine:
        lines[number] = REPLACED + lines[number].lstrip(_SPACE)
    if mine:
        # A last line without its end hands that on to the new one.
        last = mine[-1]
        ended = last < len(lines) - 1
        lines[last] = lines[last].removesuffix(b"\r") + end + new + (end.removesuffix(b"\n") if ended else b"")
        return b"\n".join(lines)
    if not text or text.endswith(b"\n"):
        return text + new + end
    return text + end + new


def _line(name: str, value: str) -> bytes:
    return f"{name} {value}".strip().encode("utf-8", "surrogateescape")


def _option(line: bytes) -> tuple[str, str]:
    """Name and value of a line; without a name for one that says nothing."""
    line = line.strip(_SPACE)
    if not line or line[:1] == b"#":
        return "", ""
    words = line.split(None, 1)
    value = words[1] if len(words) > 1 else b""
    if value[:1] == b'"':
        value = value[1:].removesuffix(b'"')
    return words[0].decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
