"""Assuan, the line protocol that GnuPG's programs speak with each other. Bytes in, bytes out; either end of it.

The libassuan manual says what is meant ("Client requests", "Server responses"); where it is silent, this does what
libassuan 2.5.5 does. It imports next to nothing, because a pinentry must answer at once.
"""

from unlatch.errors import Malformed, UnlatchError

# The manual allows 1000 bytes; libassuan takes one more when the line ends without CR, and then gives up.
MAX_LINE = 1001
# A new escape may start while the line has fewer bytes than this: no line exceeds 1000, and cuts fall as libassuan's.
_FULL = 998
# What may wait behind an open request. gpg-agent sends nothing there; this is for a client that runs ahead.
MAX_WAITING = 65536

_ESCAPED = b"%\r\n"
_HEX = b"0123456789ABCDEF"


class AssuanError(UnlatchError):
    """An ERR line. ``code`` is libgpg-error's number: the source times 2^24, plus the error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    def line(self) -> bytes:
        """The reply that says so."""
        return f"ERR {self.code} {self.text}\n".encode()


class LineReader:
    """Cuts a stream into lines, on demand: a line that is not asked for waits."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream.

        Raises:
            Malformed: more is waiting than anybody sends.
        """
        self._waiting += data
        if len(self._waiting) > MAX_WAITING:
            raise Malformed("line: too many are waiting")

    def next_line(self) -> bytes | None:
        """The next complete line without its LF or CR LF; None when there is none yet.

        Raises:
            Malformed: it is longer than ``MAX_LINE``.
        """
        end = self._waiting.find(b"\n", 0, MAX_LINE + 1)
        if end < 0:
            if len(self._waiting) > MAX_LINE:
                raise Malformed("line: too long")
            return None
        line = bytes(self._waiting[:end])
        del self._waiting[: end + 1]
        return line.removesuffix(b"\r")

    def rest(self) -> bytes:
        """What was not asked for, as it came; the reader is empty afterwards."""
        rest = bytes(self._waiting)
        self._waiting.clear()
        return rest

    @property
    def incomplete(self) -> bool:
        """Whether a part of a line is left, which at the end of the stream means that something was lost."""
        return bool(self._waiting)


def data_lines(data: bytes | memoryview) -> bytearray:
    """``data`` as D lines. Only ``%``, CR and LF are escaped; no data is no line. A bytearray, so it can be wiped."""
    lines = bytearray()
    start = 0
    for byte in data:
        if not lines or len(lines) - start >= _FULL:
            lines += b"\nD " if lines else b"D "
            start = len(lines) - 2
        lines += escape_byte(byte) if byte in _ESCAPED else bytes((byte,))
    return lines + b"\n" if lines else lines


def escape_byte(byte: int) -> bytes:
    """A byte as ``%XX``."""
    return bytes((ord("%"), _HEX[byte >> 4], _HEX[byte & 15]))


def unescape(text: bytes) -> bytes:
    """Undo the escapes. A ``%`` without two hexadecimal digits stands for itself; others make garbage of it."""
    first, *rest = text.split(b"%")
    return first + b"".join(_unescape_head(part) for part in rest)


def _unescape_head(part: bytes) -> bytes:
    digits = part[:2].upper()
    if len(digits) == 2 and all(digit in _HEX for digit in digits):
        return bytes((int(digits, 16),)) + part[2:]
    return b"%" + part


def status_line(keyword: str, text: str = "") -> bytes:
    """``S keyword text``: something to know that is no reply. What does not fit into a line is cut off."""
    escaped = b"".join(escape_byte(byte) if byte in _ESCAPED else bytes((byte,)) for byte in text.encode())
    return b" ".join((b"S", keyword.encode(), *([escaped[:900]] if text else ()))) + b"\n"


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """The command in capitals and its arguments, without the blanks between them."""
    end = next((place for place, byte in enumerate(line) if byte in b" \t"), len(line))
    return line[:end].upper(), line[end:].lstrip(b" \t")


# What one command may be answered with. A listing of a thousand keys has 100 KB; nothing that we ask for has more.
MAX_REPLY = 1 << 20
MAX_COMMAND = 1000  # libassuan refuses to send more, and to take it (ASSUAN_LINELENGTH)
_FINAL = ("OK", "ERR")
_REPLIES = (*_FINAL, "S", "D", "INQUIRE")


class Client:
    """The client's half of a dialogue: give a command, feed what the server says, take its replies one by one.

    The greeting is the first reply, so a new client waits for one. Its rules:

    1. One command at a time: the next may be given when ``idle``, which is after OK or ERR.
    2. After INQUIRE the server waits: ``answer`` or ``cancel``, then take replies again.
    3. A fault breaks the dialogue for good, because nobody knows any more which reply belongs to what.
    """

    def __init__(self, *, most: int = MAX_REPLY) -> None:
        self.idle = False
        self._most = most
        self._room = most
        self._asked = False
        self._reader = LineReader()

    def command(self, line: str) -> bytes:
        """The bytes of a command.

        Raises:
            ValueError: it is no line, or a longer one than libassuan takes, or the one before is still open.
        """
        if not self.idle:
            raise ValueError("the command before is still open")
        sent = line.encode()
        if not sent or len(sent) > MAX_COMMAND or any(byte in b"\n\r\0" for byte in sent):
            raise ValueError("not a line that Assuan can carry")
        self.idle = False
        self._room = self._most
        return sent + b"\n"

    def answer(self, data: bytes | memoryview) -> bytearray:
        """The answer to an INQUIRE. A bytearray, so that a secret in it can be wiped."""
        self._finish_inquiry()
        return data_lines(data) + b"END\n"

    def cancel(self) -> bytes:
        """The refusal to answer an INQUIRE; the server then ends the command with ERR."""
        self._finish_inquiry()
        return b"CAN\n"

    def feed(self, data: bytes) -> None:
        """Take what the server wrote; no data is the end of its stream.

        Raises:
            Malformed: it says more than it was asked for, or more than anybody needs.
        """
        if not data and self._reader.incomplete:
            raise Malformed("line: incomplete")
        self._room -= len(data)
        if self._room < 0:
            raise Malformed("reply: too long")
        self._reader.feed(data)

    def reply(self) -> tuple[str, bytes] | None:
        """The next reply as its keyword (OK, ERR, S, D, INQUIRE) and what follows it; None when there is none yet.

        D is the data itself, unescaped; the data of one answer may come in many replies.

        Raises:
            Malformed: the server breaks the protocol.
        """
        while (line := self._reader.next_line()) is not None:
            if line.startswith(b"#"):
                continue
            head, _, text = line.partition(b" ")
            keyword = head.decode("ascii", "replace")
            if keyword not in _REPLIES:
                raise Malformed("reply")
            if self.idle or self._asked:
                raise Malformed("reply: nobody asked")
            self.idle = keyword in _FINAL
            self._asked = keyword == "INQUIRE"
            return keyword, unescape(text) if keyword == "D" else text.strip(b" \t")
        return None

    def _finish_inquiry(self) -> None:
        if not self._asked:
            raise ValueError("the server does not inquire")
        self._asked = False


def parse_error(text: bytes) -> AssuanError:
    """What follows ERR: a number and, mostly, words.

    Raises:
        Malformed: it does not begin with a number of 32 bits.
    """
    number, _, words = text.partition(b" ")
    if not number.isdigit() or len(number) > 10 or int(number) >> 32:
        raise Malformed("error")
    return AssuanError(int(number), words.decode("utf-8", "replace"))
