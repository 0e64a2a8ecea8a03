"""The real libpam with service files of a test's own, in a process of its own, and somebody who answers by a script.

pam_start_confdir(3) is told where the service files are: nothing of the machine's /etc/pam.d is read. Run as a program
this file is that process; it takes what to do as JSON in its argument and writes what came of it into descriptor 3.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

SUCCESS, AUTH_ERR, AUTHINFO_UNAVAIL, MODULE_UNKNOWN, CONV_ERR = 0, 7, 9, 28, 19  # _pam_types.h
HIDE, ASK, WARN, SAY = 1, 2, 3, 4
ITEMS = {"user": 2, "tty": 3, "rhost": 4, "ruser": 8}
SERVICE = "unlatch-test"
PATIENCE = 60  # seconds for one process, with valgrind too


class Answer(NamedTuple):
    """What the conversation gives back for a prompt. ``text`` None is a NULL; ``code`` what conv() returns.

    ``length``: the text so many times over.
    """

    text: str | None = ""
    code: int = SUCCESS
    length: int = 1


class Login(NamedTuple):
    """What came of it: the codes of all operations, and what was shown with its styles, prompts too.

    ``descriptors``: how many were open before and after. ``during``: numbers of those that were open at the first
    prompt, each with whether an exec would have closed it; but for the one that all this was told through. ``seconds``:
    how long the operations took. ``log``: what the module told syslog.
    """

    codes: list[int]
    shown: list[tuple[int, str]]
    descriptors: tuple[int, int]
    during: dict[str, bool]
    seconds: float
    log: list[str]

    @property
    def code(self) -> int:
        """What the only operation returned."""
        (code,) = self.codes
        return code

    @property
    def texts(self) -> list[str]:
        """All that was shown."""
        return [text for _, text in self.shown]


class Stack:
    """A directory with a service file that has this module in it; ``shim`` is tests/pam_shim.c, compiled.

    ``kinds`` are those of its lines.
    """

    def __init__(self, module: Path, shim: Path, *arguments: str, kinds: tuple[str, ...] = ("auth",)) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-pamd-", dir="/tmp"))
        self.log = self.root / "syslog"
        self._shim = shim
        line = " ".join(["required", str(module), *arguments])
        (self.root / SERVICE).write_text("".join(f"{kind} {line}\n" for kind in kinds))

    def login(
        self,
        *answers: str | Answer,
        operations: tuple[str, ...] = ("authenticate",),
        items: dict[str, str] | None = None,
        environ: dict[str, str] | None = None,
        closed: tuple[int, ...] = (),
        signals: float = 0,
        speed: int = 1,
        mute: bool = False,
        pressed: str = "",
        preload: tuple[str, ...] = (),
        outside: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> Login:
        """Let somebody log in, who types the answers one after the other, and then no more.

        ``environ`` is PAM's, ``outside`` the process's. ``closed`` descriptors are not open in it; ``signals`` come
        every so many seconds; CLOCK_BOOTTIME runs ``speed`` times as fast. ``mute``: no text can be shown. ``before``:
        words before the interpreter. ``pressed``: the name of a signal that is blocked, and comes before PAM begins.
        """
        script = {
            "directory": str(self.root), "operations": operations, "environ": environ or {}, "mute": mute,
            "pressed": pressed,
            "closed": closed, "items": {"user": "alice"} if items is None else items, "signals": signals,
            "answers": [Answer(each) if isinstance(each, str) else each for each in answers],
        }  # fmt: skip
        told = {
            "UNLATCH_TEST_SYSLOG": str(self.log),
            "UNLATCH_TEST_SPEED": str(speed),
            "LD_PRELOAD": ":".join([*preload, str(self._shim)]),
        }
        self.log.write_text("")
        reading, writing = os.pipe()
        with os.fdopen(reading) as result:
            try:
                process = subprocess.Popen(
                    [*before, sys.executable, "-ISB", __file__, json.dumps(script), str(writing)],
                    env=told | (outside or {}), stdin=subprocess.DEVNULL, pass_fds=(writing,),
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
            finally:
                os.close(writing)
            try:
                said, _ = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
                process.wait()
            assert (process.returncode, said) == (0, b""), said.decode()
            came = json.loads(result.read())
        shown = [(style, text) for style, text in came["shown"]]
        log = [line for line in self.log.read_text().splitlines() if line.startswith("pam_unlatch(")]
        return Login(came["codes"], shown, tuple(came["descriptors"]), came["during"], came["seconds"], log)

    def close(self) -> None:
        """Forget it."""
        shutil.rmtree(self.root)


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_CONV = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)), ctypes.c_void_p,
)  # fmt: skip


class _Converse(ctypes.Structure):
    _fields_ = (("call", _CONV), ("data", ctypes.c_void_p))


def _open_descriptors() -> dict[str, bool]:
    return {name: not os.get_inheritable(int(name)) for name in os.listdir("/proc/self/fd") if _is_open(int(name))}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _Person:
    """The conversation function of a program."""

    def __init__(self, answers: list[Answer], *, mute: bool) -> None:
        self._mute = mute
        self.shown: list[tuple[int, str]] = []
        self.during: dict[str, bool] = {}
        self._answers = iter(answers)
        self._libc = ctypes.CDLL(None)
        self._libc.calloc.restype = ctypes.c_void_p

    def converse(self, count: int, messages: Any, responses: Any, _: Any) -> int:
        memory = self._libc.calloc(ctypes.c_size_t(count), ctypes.c_size_t(ctypes.sizeof(_Response)))
        given = (_Response * count).from_address(memory)
        code = SUCCESS
        for index in range(count):
            message = messages[index].contents
            self.shown.append((message.style, message.text.decode("utf-8", "surrogateescape")))
            if message.style in (SAY, WARN):
                code = CONV_ERR if self._mute else code
            else:
                self.during = self.during or _open_descriptors()
                answer = next(self._answers, Answer(None, CONV_ERR))
                code = code or answer.code
                if answer.text is not None:
                    typed = answer.text.encode("utf-8", "surrogateescape") * answer.length
                    room = self._libc.calloc(ctypes.c_size_t(len(typed) + 1), ctypes.c_size_t(1))
                    ctypes.memmove(room, typed, len(typed))
                    given[index].text = room
        responses[0] = ctypes.cast(memory, ctypes.POINTER(_Response))
        return code


def main() -> None:
    """Do what the argument says."""
    script, result = json.loads(sys.argv[1]), int(sys.argv[2])
    for number in script["closed"]:
        os.close(number)
    if script["signals"]:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, script["signals"], script["signals"])
    if script["pressed"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.Signals[script["pressed"]]])
        os.kill(os.getpid(), signal.Signals[script["pressed"]])
    pam = ctypes.CDLL("libpam.so.0")
    person = _Person([Answer(*each) for each in script["answers"]], mute=script["mute"])
    converse = _Converse(_CONV(person.converse), None)
    handle = ctypes.c_void_p()
    before = len(_open_descriptors())
    directory = script["directory"].encode()
    begun = pam.pam_start_confdir(SERVICE.encode(), None, ctypes.byref(converse), directory, ctypes.byref(handle))
    assert begun == SUCCESS
    for name, value in script["items"].items():
        assert pam.pam_set_item(handle, ITEMS[name], value.encode("utf-8", "surrogateescape")) == SUCCESS
    for name, value in script["environ"].items():
        assert pam.pam_putenv(handle, f"{name}={value}".encode()) == SUCCESS
    clock = time.monotonic()
    codes = [getattr(pam, f"pam_{operation}")(handle, 0) for operation in script["operations"]]
    seconds = time.monotonic() - clock
    signal.setitimer(signal.ITIMER_REAL, 0)
    pam.pam_end(handle, codes[-1])
    after = len(_open_descriptors())
    person.during.pop(str(result), None)
    came = {
        "codes": codes, "shown": person.shown, "descriptors": (before, after), "during": person.during,
        "seconds": seconds,
    }  # fmt: skip
    with os.fdopen(result, "w") as file:
        json.dump(came, file)


if __name__ == "__main__":
    main()
