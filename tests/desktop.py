"""A screen (Xvfb) and a keyboard (XTEST, as xdotool would use it), for what a browser asks outside its pages."""

import ctypes
import os
import subprocess
from ctypes import c_char_p, c_int, c_ulong, c_void_p

from real import absent, real


class Desktop:
    """One screen of its own, on a display number that nobody else has."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self._server = subprocess.Popen(
            [real("Xvfb"), "-displayfd", str(writing), "-screen", "0", "1000x800x24", "-nolisten", "tcp"],
            pass_fds=(writing,), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as said:
            self.display = f":{said.readline().strip()}"
        self._x11, self._xtst = _library("libX11.so.6"), _library("libXtst.so.6")
        self._x11.XOpenDisplay.argtypes, self._x11.XOpenDisplay.restype = [c_char_p], c_void_p
        self._x11.XStringToKeysym.argtypes, self._x11.XStringToKeysym.restype = [c_char_p], c_ulong
        self._x11.XKeysymToKeycode.argtypes = [c_void_p, c_ulong]
        self._x11.XFlush.argtypes = self._x11.XCloseDisplay.argtypes = [c_void_p]
        self._xtst.XTestFakeKeyEvent.argtypes = [c_void_p, c_int, c_int, c_ulong]
        self._connection = c_void_p(self._x11.XOpenDisplay(self.display.encode()))

    def press(self, *keys: str) -> None:
        """Press keys together, named as X names them: "Alt_L", "Return", "a"."""
        codes = [self._x11.XKeysymToKeycode(self._connection, self._x11.XStringToKeysym(key.encode())) for key in keys]
        for code in codes:
            self._xtst.XTestFakeKeyEvent(self._connection, code, 1, 0)
        for code in reversed(codes):
            self._xtst.XTestFakeKeyEvent(self._connection, code, 0, 0)
        self._x11.XFlush(self._connection)

    def close(self) -> None:
        """Switch the screen off."""
        self._x11.XCloseDisplay(self._connection)
        self._server.terminate()
        self._server.wait(20)


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError:
        absent(f"{name} is not installed; tools/setup test installs it")
        raise
