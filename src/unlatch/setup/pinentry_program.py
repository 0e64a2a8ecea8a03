"""Can this user's gpg-agent start the pinentry that a line is about to name?

gpg-agent starts it as its own user, by a path that it takes literally. When it cannot, it says "No pinentry", which gpg
shows as "No secret key", and there is no second one to fall back on. So it is tried first, as that user.
"""

import os
import stat
from collections.abc import Mapping

from unlatch import __version__
from unlatch.doctor.asker.pinentry_trial import trial


def fault(path: str, environ: Mapping[str, str]) -> str:
    """Why this process's user cannot use the program at ``path``, printable; "" when all is well."""
    return _by_its_name(path) or _by_its_file(path) or _by_trying(path, environ)


def _by_its_name(path: str) -> str:
    if path.startswith("~"):
        return "gpg-agent does not know ~: the path must be absolute"
    if not path.startswith("/"):
        return "the path must be absolute"
    if path != path.strip() or not path.isprintable() or path.endswith('"'):
        return "gpg-agent cannot read such a path back from its file"
    return ""


def _by_its_file(path: str) -> str:
    if hidden := _hidden_behind(path):
        return f"this user cannot enter {hidden}"
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return _missing(path)
    except OSError as error:
        return (error.strerror or "it cannot be looked at").lower()
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if not os.access(path, os.X_OK, effective_ids=True):
        return "this user cannot execute it"
    return ""


def _missing(path: str) -> str:
    first = path.partition(" ")[0]
    if first != path and os.path.isfile(first):
        return f"there is no such file: what follows {first} would belong to its name, as an argument or a comment"
    return "there is no such file"


def _hidden_behind(path: str) -> str:
    """The first directory on the way that this user cannot enter; private homes, mostly."""
    folder = ""
    for part in path.split("/")[1:-1]:
        folder += f"/{part}"
        if os.path.isdir(folder) and not os.access(folder, os.X_OK, effective_ids=True):
            return folder
    return ""


def _by_trying(path: str, environ: Mapping[str, str]) -> str:
    """Start it: only that finds an interpreter that is gone, and a package that does not fit it any more."""
    tried = trial(path, environ)
    if tried.why:
        return tried.why
    if tried.flavor != "unlatch":
        return "it is another pinentry"
    if tried.version != __version__:
        return f"it is version {tried.version}, this command {__version__}"
    return ""
