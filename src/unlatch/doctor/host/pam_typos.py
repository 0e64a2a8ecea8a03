"""Lines of /etc/pam.d that mean our module and name one that is not there: PAM then refuses whoever comes by them, and
says so in no session.
"""

import difflib
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from unlatch.doctor.check import Finding, Situation, problem
from unlatch.doctor.host import pam_places
from unlatch.doctor.host.pam_places import Line

MOST = 8  # lines to tell of
_OURS = "unlatch"
# Between "pam_unlock.so" (0.62), which may be another's, and "pam_latch.so" (0.83), which nobody else has.
_NEAR = 0.7
_STRICT = ("required", "requisite")


class Typo(NamedTuple):
    """``module`` as it stands in the line."""

    service: str
    number: int
    control: str
    module: str


def find(lines: Iterable[Line]) -> tuple[Typo, ...]:
    """Those whose module's file does not exist, if its name is ours or nearly so. Our own bare name is none of them."""
    found = (
        Typo(line.use.service, line.use.number, line.use.control, line.module)
        for line in lines
        if line.module != pam_places.MODULE and is_near(line.module) and not _exists(line.module)
    )
    return tuple(found)[:MOST]


def is_near(module: str) -> bool:
    """Whether the name of a module's file is ours or nearly so. Pure."""
    stem = re.sub(r"^(lib)?pam[_-]?|\.so.*$", "", os.path.basename(module).lower())
    return _OURS in stem or difflib.SequenceMatcher(None, stem, _OURS).ratio() >= _NEAR


def _exists(module: str) -> bool:
    if "$ISA" in module:  # PAM's own word for a part of the path
        return True
    return os.path.exists(module) if module.startswith("/") else bool(pam_places.module_path(module))


def judge(typo: Typo, situation: Situation) -> Finding:
    """Whatever PAM makes of it, nobody is asked."""
    place = f"{pam_places.PAM_D}/{typo.service}"
    follows = "every login there is refused" if typo.control in _STRICT else "this line never asks anybody"
    text = (
        f"{place}:{typo.number} names {typo.module}, which does not exist: {follows}; it must say {pam_places.MODULE}"
    )
    return problem(text, situation.as_root("vi", f"+{typo.number}", place))
