"""The pinentry's side of the dialogue with gpg-agent. Bytes in, replies out, at most one open request; no I/O.

Replies and error codes are those of pinentry-curses 1.2.1 as Debian builds it; tests/transcripts holds what both say
and, apart from that, where this differs on purpose:
- the flavor is "unlatch", the version our own;
- ``SETREPEAT`` is obeyed: a new passphrase is typed twice here, and ``S PIN_REPEATED`` tells the agent so;
- ``SETREPEATOK`` (pinentry 1.3) and ``OPTION pinentry-user-data`` are known;
- text that is not UTF-8 is shown with replacement characters; curses fails with a locale error.
"""

from unlatch.errors import Malformed
from unlatch.wire.assuan import AssuanError, LineReader, data_lines, split_command, status_line, unescape

TYPE_CHECKING = False  # importing typing or collections.abc costs more than all of this
if TYPE_CHECKING:
    from collections.abc import Callable

_SYNTAX = (536871188, "IPC syntax error <User defined source 1>")
_OPEN_ENDS = {  # what a person's decision, or the lack of one, is called
    "cancelled": (83886179, "Operation cancelled <Pinentry>"),
    "not-confirmed": (83886194, "Not confirmed <Pinentry>"),
    "timeout": (83886142, "Timeout <Pinentry>"),
}
_NOT_IMPLEMENTED = (536870981, "Not implemented <User defined source 1>")
_UNKNOWN_COMMAND = (536871187, "Unknown IPC command <User defined source 1>")
_NO_HELP = (536870939, "Not found <User defined source 1>")
_NO_SUCH_TOPIC = (536871087, "Unknown command <User defined source 1>")
_UNKNOWN_OPTION = (83886254, "Unknown option <Pinentry>")
_BAD_PARAMETER = (83886360, "IPC parameter error <Pinentry>")
_NO_CACHE = (83886337, "General IPC error <Pinentry>")

# The order of pinentry's HELP, with what only we know at the end.
COMMANDS = (
    b"NOP CANCEL OPTION BYE AUTH RESET END HELP SETDESC SETPROMPT SETKEYINFO SETREPEAT SETREPEATERROR SETERROR SETOK "
    b"SETNOTOK SETCANCEL GETPIN CONFIRM MESSAGE SETQUALITYBAR SETQUALITYBAR_TT SETGENPIN SETGENPIN_TT GETINFO SETTITLE "
    b"SETTIMEOUT CLEARPASSPHRASE SETREPEATOK"
).split()
_REQUESTS = (b"GETPIN", b"CONFIRM", b"MESSAGE")
_FLAGS = (
    b"grab no-grab allow-external-password-cache allow-emacs-prompt formatted-passphrase constraints-enforce"
).split()
_OPTIONS = (
    b"debug-wait display ttyname ttytype ttyalert lc-ctype lc-messages owner touch-file parent-wid default-ok "
    b"default-cancel default-prompt default-pwmngr default-cf-visi default-tt-visi default-tt-hide default-capshint "
    b"invisible-char formatted-passphrase-hint constraints-hint-short constraints-hint-long constraints-error-title "
    b"pinentry-user-data"
).split()


class Request:
    """An open request: ``GETPIN``, ``CONFIRM`` or ``MESSAGE``, and all that was set for it.

    ``seconds`` is the time limit of SETTIMEOUT, 0 for none. ``one_button`` leaves nothing but OK to choose.
    """

    def __init__(
        self, command: str, *, texts: dict[str, str], options: dict[str, str], seconds: int, one_button: bool
    ) -> None:
        self.command = command
        self.seconds = seconds
        self.one_button = one_button
        self._texts = dict(texts)
        self._options = dict(options)

    def text(self, name: str) -> str:
        """What ``SETname`` said (``desc``, ``prompt``, ``keyinfo``...), decoded; "" when it did not."""
        return self._texts.get(name, "")

    def option(self, name: str) -> str:
        """The value of an OPTION; a byte that is not UTF-8 is a lone surrogate, as in a file name (PEP 383)."""
        return self._options.get(name, "")

    def label(self, name: str) -> str:
        """A button's or field's label: what was set, else the agent's translated default, without its mnemonic."""
        return _without_mnemonic(self._texts.get(name, self._options.get(f"default-{name}", "")))


class Dialogue:
    """Feed bytes, write what comes back, answer ``request`` when there is one, end when it is ``closed``.

    While a request is open, further lines wait. Every method that returns bytes returns all that is to be written now.
    ``fault`` says why a broken dialogue was closed.
    """

    def __init__(self, version: str, pid: int, ttyinfo: "Callable[[dict[str, str]], str]") -> None:
        self.request: Request | None = None
        self.closed = False
        self.fault = ""
        self._reader = LineReader()
        self._texts: dict[str, str] = {}
        self._options: dict[str, str] = {}
        self._seconds = 0
        self._lines: dict[bytes, bytes] = {}  # those in force, raw, by what they set
        self._info: dict[bytes, Callable[[], str]] = {
            b"version": lambda: version,
            b"flavor": lambda: "unlatch",
            b"pid": lambda: str(pid),
            b"ttyinfo": lambda: ttyinfo(self._options),
        }

    def feed(self, data: bytes) -> bytearray:
        """Take what gpg-agent wrote; no data is the end of its stream."""
        try:
            self._reader.feed(data)
        except Malformed as error:
            self._break(error.what)
        replies = self._advance()
        if not data and not self.closed:
            self.closed = True
            self.fault = "line: incomplete" if self._reader.incomplete and self.request is None else ""
        return replies

    def give(self, secret: bytes | memoryview) -> bytearray:
        """Answer GETPIN. Nothing is an answer too: gpg-agent takes it as the empty passphrase."""
        request = self._finish()
        replies = bytearray()
        if request.text("repeat"):
            replies += status_line("PIN_REPEATED")
        replies += data_lines(secret)
        replies += b"OK\n"
        return replies + self._advance()

    def confirm(self) -> bytearray:
        """Answer CONFIRM or MESSAGE with yes."""
        self._finish()
        return bytearray(b"OK\n") + self._advance()

    def fail(self, end: str, where: str = "", why: str = "") -> bytearray:
        """Answer any request with ``cancelled``, ``not-confirmed`` or ``timeout``.

        ``where`` and ``why`` go into gpg-agent's debug log, in the form that pinentry gives to its own failures.
        """
        self._finish()
        error = AssuanError(*_OPEN_ENDS[end])
        status = status_line("ERROR", f"unlatch.{where} {error.code} {why}") if where else b""
        return bytearray(status + error.line()) + self._advance()

    def take_over(self) -> tuple[list[bytes], bytes]:
        """What another pinentry must hear to go on here: the lines in force, the open request last; then the rest."""
        assert self.request is not None
        self.closed = True
        return list(self._lines.values()), self._reader.rest()

    def _finish(self) -> Request:
        request = self.request
        assert request is not None
        self.request = None
        for name in ("error", "repeat"):  # they were for this request only
            self._texts.pop(name, None)
        for command in (b"SETERROR", b"SETREPEAT", request.command.encode()):
            self._lines.pop(command, None)
        return request

    def _break(self, fault: str) -> None:
        self.closed = True
        self.fault = fault

    def _advance(self) -> bytearray:
        replies = bytearray()
        while self.request is None and not self.closed:
            try:
                line = self._reader.next_line()
            except Malformed as error:
                self._break(error.what)
                break
            if line is None:
                break
            replies += self._reply(line)
        return replies

    def _reply(self, line: bytes) -> bytes | bytearray:
        if not line or line.startswith(b"#"):
            return b""
        try:
            return self._run(line)
        except AssuanError as error:
            return error.line()

    def _run(self, line: bytes) -> bytes | bytearray:
        text = line.split(b"\0", 1)[0]  # to pinentry a line is a C string
        if text[:1] in (b"", b" ", b"\t"):
            raise _syntax("leading white-space")
        if text.startswith(b"D "):
            raise AssuanError(*_NOT_IMPLEMENTED)
        command, arguments = split_command(text)
        if command not in COMMANDS:
            raise AssuanError(*_UNKNOWN_COMMAND)
        if command in _REQUESTS:
            self._open(command, arguments, line)
            return b""
        if command == b"BYE":
            self.closed = True
            return b"OK closing connection\n"
        return self._execute(command, arguments, line) + b"OK\n"

    def _open(self, command: bytes, arguments: bytes, line: bytes) -> None:
        self._lines[command] = line
        self.request = Request(
            command.decode(),
            texts=self._texts,
            options=self._options,
            seconds=self._seconds,
            one_button=command == b"MESSAGE" or b"--one-button" in arguments,
        )

    def _execute(self, command: bytes, arguments: bytes, line: bytes) -> bytes | bytearray:
        """Do what a command says that needs nobody's answer; what it says before its OK."""
        match command:
            case b"AUTH" | b"CANCEL" | b"END":
                raise AssuanError(*_NOT_IMPLEMENTED)
            case b"CLEARPASSPHRASE":
                raise AssuanError(*_NO_CACHE)
            case b"GETINFO":
                if arguments not in self._info:
                    raise AssuanError(*_BAD_PARAMETER)
                return data_lines(self._info[arguments]().encode("utf-8", "surrogateescape"))
            case b"HELP":
                return _help(arguments)
            case b"RESET":
                self._texts.clear()
                self._lines = {
                    key: line for key, line in self._lines.items() if key.startswith((b"OPTION", b"SETTIMEOUT"))
                }
            case b"OPTION":
                name, value = _parse_option(arguments)
                if name not in _OPTIONS and (name not in _FLAGS or value):
                    raise AssuanError(*_UNKNOWN_OPTION)
                self._options[name.decode()] = value.decode("utf-8", "surrogateescape")
                self._lines[b"OPTION " + name] = line
            case b"SETTIMEOUT":
                self._seconds = _leading_number(arguments)
                self._lines[command] = line
            case b"SETKEYINFO" if arguments.startswith(b"--clear"):
                self._texts["keyinfo"] = ""
                self._lines[command] = line
            case _ if command.startswith(b"SET"):
                self._texts[command[3:].decode().lower()] = _decode(arguments)
                self._lines[command] = line
        return b""


def _syntax(what: str) -> AssuanError:
    code, text = _SYNTAX
    return AssuanError(code, f"{text} - {what}")


def _parse_option(arguments: bytes) -> tuple[bytes, bytes]:
    """``name``, ``name=value`` or ``name value``, with two dashes before it or none."""
    text = arguments.rstrip(b" ")
    if not text:
        raise _syntax("argument required")
    if text.startswith(b"--") and text[2:3] not in (b"", b" ", b"\t", b"="):
        text = text[2:]
    if text.startswith(b"-"):
        raise _syntax("option should not begin with one dash")
    end = next((place for place, byte in enumerate(text) if byte in b" \t="), len(text))
    name, value = text[:end], text[end:].lstrip(b" \t")
    if not name:
        raise _syntax("no option name given")
    if value.startswith(b"="):
        value = value[1:].lstrip(b" \t")
        if not value:
            raise _syntax("option argument expected")
    return name, value


def _help(topic: bytes) -> bytes:
    if topic:
        raise AssuanError(*(_NO_HELP if split_command(topic)[0] in COMMANDS else _NO_SUCH_TOPIC))
    return b"".join(b"# " + command + b"\n" for command in COMMANDS)


def _leading_number(text: bytes) -> int:
    """As atoi(3), but never negative: what is no number is no limit."""
    digits = text[: len(text) - len(text.lstrip(b"0123456789"))]
    return min(int(digits or b"0"), 2**31 - 1)


def _decode(text: bytes) -> str:
    return unescape(text).split(b"\0", 1)[0].decode("utf-8", "replace")


def _without_mnemonic(label: str) -> str:
    """A label as people read it: one underscore marks the key to press, two stand for one."""
    return label.replace("__", "\0").replace("_", "").replace("\0", "_")
