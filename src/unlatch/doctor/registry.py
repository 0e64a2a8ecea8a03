"""All checks there are, in the order in which they are run and shown."""

from unlatch.doctor.asker import CHECKS as ASKER
from unlatch.doctor.check import Checks
from unlatch.doctor.host import CHECKS as HOST

ALL: Checks = (*ASKER, *HOST)

__all__ = ["ALL", "ASKER", "HOST"]
