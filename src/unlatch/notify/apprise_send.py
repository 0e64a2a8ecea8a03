"""The process that sends one message through Apprise, and is then gone.

It gets one JSON object on standard input (where the URL is, and the text) and says on standard output why it failed:
in our own words only. What Apprise logs, prints or raises may quote the URL and the link; it is looked at for a few
known signs, here in memory, and never passed on.
"""

import json
import logging
import os
import re
import sys
from typing import NoReturn

from unlatch.credentials import NoCredential, Source, read
from unlatch.secret import forbid_core_dumps
from unlatch.settings import APPRISE_MATRIX, apprise_refusal

MAX_TASK = 1 << 20  # bytes; a list of twelve prompts has some thousands
# Signs in Apprise's log, the telling ones first. The texts are ours.
_SIGNS = (
    (re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"), "the server's certificate is not trusted"),
    (
        re.compile(r"NameResolution|Name or service not known|getaddrinfo|name resolution"),
        "the name cannot be resolved",
    ),
    (re.compile(r"Connection refused"), "the connection is refused"),
    (re.compile(r"timed out|Timeout"), "the server does not answer in time"),
    (re.compile(r"Authenticat|\b535\b"), "the server does not accept the credential"),
    (re.compile(r"unreachable"), "the network is not reachable"),
    (re.compile(r"Connection|connection|Socket"), "the connection failed"),
)
_STATUS = re.compile(r"\berror=([1-5][0-9]{2})\b")


class Signs(logging.Handler):
    """Listens to Apprise's log, and keeps of it what is in our own words."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self._status = ""
        self._rank = len(_SIGNS)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a foreign log line is no reason to fail
            return
        if record.levelno < logging.WARNING and not text.startswith(("Socket", "I/O")):
            return  # debug lines quote the message itself, in which any sign may stand
        status = _STATUS.search(text)
        if status:
            self._status = f"the server answered {status[1]}"
        for rank, (sign, _) in enumerate(_SIGNS[: self._rank]):
            if sign.search(text):
                self._rank = rank
                break

    def why(self) -> str:
        """Why it failed, as far as the log told."""
        if self._status:
            return self._status
        return _SIGNS[self._rank][1] if self._rank < len(_SIGNS) else "the service did not take it"


def main() -> NoReturn:
    """Send, and exit 0; or say why not, and exit 1."""
    forbid_core_dumps()
    report, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # a plugin that prints, prints into nothing
        os.dup2(nowhere, descriptor)
    try:
        why = _send(json.loads(sys.stdin.buffer.read(MAX_TASK)))
    except NoCredential as error:
        why = error.why
    except BaseException as error:  # also a plugin's sys.exit()
        why = f"failed: {type(error).__name__}"
    if why:
        os.write(report, why.encode("ascii", "replace"))
    os._exit(1 if why else 0)  # no plugin's thread or exit handler has a say


def _send(task: dict[str, object]) -> str:
    """Why it was not sent, or nothing.

    Raises:
        NoCredential
    """
    kind, where = str(task["kind"]), task["where"]
    assert isinstance(where, list)
    url = where[0] if kind == "inline" else read(Source(kind, tuple(where)), os.environ)
    if refusal := apprise_refusal(url):
        return refusal
    signs = Signs()
    root = logging.getLogger()
    root.handlers[:] = [signs]
    root.setLevel(logging.DEBUG)
    import apprise

    logger = logging.getLogger("apprise")
    logger.handlers[:], logger.propagate = [signs], False
    logger.setLevel(logging.DEBUG)
    asset = apprise.AppriseAsset(
        app_id="Unlatch", app_desc="Unlatch", app_url="", image_url_mask="", image_url_logo="",
        interpret_escapes=False, interpret_emojis=False, async_mode=False, secure_logging=True,
        storage_mode=apprise.PersistentStoreMode.MEMORY, plugin_paths=[],
    )  # fmt: skip
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        return "Apprise does not understand the URL"
    if type(plugin).__module__.startswith("apprise.plugins.matrix"):  # it knows more spellings than we do
        return APPRISE_MATRIX
    sender = apprise.Apprise(asset=asset)
    sender.add(plugin)
    delivered = sender.notify(
        title=str(task["title"]), body=str(task["body"]), body_format=apprise.NotifyFormat.TEXT,
        notify_type=apprise.NotifyType.WARNING,
    )  # fmt: skip
    return "" if delivered else signs.why()
