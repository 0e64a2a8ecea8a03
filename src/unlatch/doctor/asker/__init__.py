"""What the asking user's programs find: pinentry, GNUPGHOME, agent, broker. Each probe runs as that user."""

from unlatch.doctor.asker.gnupg_home import GNUPG_HOME
from unlatch.doctor.check import Checks

CHECKS: Checks = (GNUPG_HOME,)
