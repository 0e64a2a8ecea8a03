"""The page: one HTML document, joined from the files of this folder, and the headers that it is served with.

The page is the only thing a stranger gets, and the only place where a secret is typed. So it is one static document
without a single byte from elsewhere: style and script stand inside it and are allowed by their hashes, and nothing
else may load, run, frame, or be posted anywhere but to the broker that served it.
"""

import base64
import functools
import hashlib
import re
from pathlib import Path

_FOLDER = Path(__file__).parent
_STYLE_TAG = '<link rel="stylesheet" href="page.css">'
_COMMENT = re.compile(r"/\*[\s\S]*?\*/|(?:^| ) *// .*$", re.MULTILINE)  # our strings hold neither "/*" nor " // "
_AROUND = re.compile(r" *([{};,]) *|: +")  # blanks that mean nothing in CSS
_STRING = re.compile(r'("(?:[^"\\]|\\.)*"|`[^`]*`)')
_AROUND_SIGN = re.compile(r" ?([=>!&|?<{}():,]+) ?")  # blanks that mean nothing in a script outside its strings
_NEEDLESS_BREAK = re.compile(r"(?<=[;{},])\n")
_NEEDLESS_SCRIPT_BREAK = re.compile(r"(?<=[;{,[(])\n|\n(?=[})\].])")
_SCRIPT_TAGS = re.compile(r'(?:<script src="([a-z]+\.js)"></script>\n)+')


def document() -> bytes:
    """The page, the same for every ticket."""
    return _joined("page.html")


def dead_document() -> bytes:
    """The body of the one static 404: a dead link, without a script and without a reason."""
    return _joined("dead.html")


def fingerprint() -> str:
    """SHA-256 of the page in hex: what an administrator can compare with what a phone was served."""
    return hashlib.sha256(document()).hexdigest()


@functools.cache
def headers() -> tuple[tuple[str, str], ...]:
    """The headers of both documents."""
    return (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", _policy()),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),  # for what does not know frame-ancestors
        ("X-Robots-Tag", "noindex, nofollow"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Permissions-Policy", ", ".join(f"{feature}=()" for feature in _UNUSED_FEATURES)),
    )


_UNUSED_FEATURES = (
    "accelerometer", "browsing-topics", "camera", "clipboard-read", "display-capture", "geolocation",
    "gyroscope", "hid", "idle-detection", "local-fonts", "microphone", "midi", "payment", "screen-wake-lock", "serial",
    "usb",
)  # fmt: skip


def _policy() -> str:
    """The content security policy (W3C CSP 3).

    ``form-action 'none'``: with scripts off, the form must not send a passphrase in clear; password managers do not
    mind. ``trusted-types 'none'``: the script never makes markup out of text.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(_script())}'",
            f"style-src '{_hash(_style())}'",
            "connect-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


@functools.cache
def _joined(name: str) -> bytes:
    html = _read(name).replace(_STYLE_TAG, f"<style>{_style()}</style>")
    return _SCRIPT_TAGS.sub(lambda _: f"<script>{_script()}</script>\n", html).encode()


@functools.cache
def _style() -> str:
    # Our strings hold none of these, and no selector of ours has a blank before a colon.
    return _NEEDLESS_BREAK.sub("", _AROUND.sub(lambda match: match[1] or ":", _read("page.css")))


@functools.cache
def _script() -> str:
    """The scripts that page.html names, in that order, in one scope of their own: nothing in it is a global."""
    names = re.findall(r'<script src="([a-z]+\.js)">', _read("page.html"))
    lines = "\n".join(_read(name) for name in names).splitlines()
    return _NEEDLESS_SCRIPT_BREAK.sub("", '(() => {\n"use strict";\n' + "\n".join(map(_tight, lines)) + "\n})();\n")


def _tight(line: str) -> str:
    """A line of a script without blanks that mean nothing. A line with a template in a template, or with what may be a
    regular expression, is left as it is, so that nobody has to trust a parser of ours.
    """
    parts = _STRING.split(line)  # code, string, code, ...
    if line.count("`") > 2 or re.search(r"['/]", "".join(parts[::2])):
        return line
    return "".join(part if number % 2 else _AROUND_SIGN.sub(r"\1", part) for number, part in enumerate(parts))


def _read(name: str) -> str:
    """A file without what only its readers need, indentation and comments: a third of the bytes."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    lines = _COMMENT.sub("", text).splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
