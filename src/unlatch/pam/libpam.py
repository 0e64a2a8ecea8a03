"""libpam, called as sshd or su call it, with a directory of service files of our own: nothing of /etc/pam.d is read.

pam_start_confdir(3) is in Linux-PAM 1.4 (2020) and later. The constants are those of _pam_types.h.
"""

import ctypes
from typing import Protocol

from unlatch.errors import UnlatchError
from unlatch.secret import Secret

SUCCESS, AUTH_ERR, AUTHINFO_UNAVAIL, CONV_ERR = 0, 7, 9, 19
_TTY = 3  # what a program says before it authenticates: pam_set_item(3), PAM_TTY
_HIDE, _ASK = 1, 2  # the other styles only show
_MAX_MESSAGES = 32  # PAM_MAX_NUM_MSG


class NoPam(UnlatchError):
    """No libpam that can be used; the text is printable."""


class Conversation(Protocol):
    """Who talks to the person. What is raised here ends the conversation, and is raised again when PAM has ended."""

    def show(self, text: str) -> None:
        """Show a text of one line or more: information, or an error."""

    def ask(self, prompt: str, *, echo: bool) -> Secret:
        """Ask for a line."""


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    # A plain address: ctypes would copy a c_char_p into memory of its own.
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_CONVERSE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)),
    ctypes.c_void_p,
)


class _Converse(ctypes.Structure):
    _fields_ = (("call", _CONVERSE), ("data", ctypes.c_void_p))


class _Caller:
    """What libpam calls back: its messages to the conversation, and what was typed into memory that it frees."""

    def __init__(self, conversation: Conversation) -> None:
        self.raised: BaseException | None = None
        self._conversation = conversation
        self._libc = ctypes.CDLL(None)
        self._libc.calloc.restype = ctypes.c_void_p
        self._libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)

    def __call__(self, count: int, messages: object, responses: object, _: object) -> int:
        if self.raised is not None or not 0 < count <= _MAX_MESSAGES:
            return CONV_ERR
        # In memory that libpam frees, and given to it whole or not at all: then it is lost, shortly before the end.
        memory = self._libc.calloc(count, ctypes.sizeof(_Response))
        if not memory:
            return CONV_ERR
        try:
            given = (_Response * count).from_address(memory)
            for number in range(count):
                given[number].text = self._one(messages[number].contents)  # type: ignore[index]
        except BaseException as error:  # nothing may pass through libpam's frames
            self.raised = error
            return CONV_ERR
        responses[0] = ctypes.cast(memory, ctypes.POINTER(_Response))  # type: ignore[index]
        return SUCCESS

    def _one(self, message: _Message) -> int | None:
        text = (message.text or b"").decode("utf-8", "replace")
        if message.style not in (_HIDE, _ASK):
            self._conversation.show(text)
            return None
        typed = self._conversation.ask(text, echo=message.style == _ASK)
        data = bytes(typed.reveal())
        room = self._libc.calloc(len(data) + 1, 1)
        if not room:
            raise MemoryError
        ctypes.memmove(room, data, len(data))
        return int(room)


def authenticate(directory: str, service: str, user: str, tty: str, talk: Conversation) -> int:
    """pam_authenticate(3) for a service whose file stands in ``directory``; PAM's own code.

    Raises:
        NoPam: libpam is missing or too old, or cannot begin.
    """
    library = _library()
    caller = _Caller(talk)
    converse = _Converse(_CONVERSE(caller), None)
    handle = ctypes.c_void_p()
    names = (service.encode(), user.encode())
    begun = library.pam_start_confdir(*names, ctypes.byref(converse), directory.encode(), ctypes.byref(handle))
    if begun != SUCCESS:
        raise NoPam(f"pam_start_confdir() returned {begun}")
    try:
        library.pam_set_item(handle, _TTY, ctypes.c_char_p(tty.encode()))
        code = int(library.pam_authenticate(handle, 0))
    finally:
        library.pam_end(handle, 0)
    if caller.raised is not None:
        raise caller.raised
    return code


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libpam.so.0")
        library.pam_start_confdir.restype = ctypes.c_int
    except OSError:
        raise NoPam("libpam.so.0 is not installed") from None
    except AttributeError:
        raise NoPam("libpam.so.0 is older than 1.4") from None
    library.pam_set_item.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    library.pam_authenticate.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.pam_end.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library
