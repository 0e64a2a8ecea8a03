"""What the asking user's programs find: pinentry, GNUPGHOME, agent, broker. Each probe runs as that user."""

from unlatch.doctor.asker.agent_pinentry import AGENT_PINENTRY
from unlatch.doctor.asker.agent_stays import AGENT_STAYS
from unlatch.doctor.asker.broker_reachable import BROKER_REACHABLE
from unlatch.doctor.asker.cache_times import CACHE_TIMES
from unlatch.doctor.asker.gnupg_home import GNUPG_HOME
from unlatch.doctor.asker.one_agent import ONE_AGENT
from unlatch.doctor.asker.pinentry_line import PINENTRY_LINE
from unlatch.doctor.asker.pinentry_place import PINENTRY_PLACE
from unlatch.doctor.asker.pinentry_runs import PINENTRY_RUNS
from unlatch.doctor.asker.presetting import PRESETTING
from unlatch.doctor.asker.rules_check import RULES
from unlatch.doctor.asker.socket_path import SOCKET_PATH
from unlatch.doctor.asker.who_is_rung import WHO_IS_RUNG
from unlatch.doctor.check import Checks

# Along the way of a request: the home, its agent, the pinentry that it starts, the broker, the people.
CHECKS: Checks = (
    GNUPG_HOME,
    SOCKET_PATH,
    ONE_AGENT,
    AGENT_STAYS,
    CACHE_TIMES,
    PRESETTING,
    PINENTRY_LINE,
    PINENTRY_PLACE,
    PINENTRY_RUNS,
    AGENT_PINENTRY,
    RULES,
    BROKER_REACHABLE,
    WHO_IS_RUNG,
)
