"""What holds for the whole machine: broker, page, notifiers, clock. These probes run as whoever calls doctor.

A new check is a file with Facts, ``probe``, ``judge`` and a ``Check``; a place in ``CHECKS``; its row in
docs/doctor.md; and two tests in a tests/test_doctor_*.py called ``test_NAME_fails...`` and ``test_NAME_passes...``
(tests/test_doctor_registry.py holds that).

Probes run side by side, so none changes anything of this process. What several of them need (the broker's status, the
look at the page, the tried notifiers) is found out once: ``shared.py``.
"""

from unlatch.doctor.check import Checks
from unlatch.doctor.host.boot_order import BOOT_ORDER
from unlatch.doctor.host.broker import BROKER, BROKER_VERSION, PAGE_FINGERPRINT
from unlatch.doctor.host.certificate import CERTIFICATE
from unlatch.doctor.host.client_address import CLIENT_ADDRESS
from unlatch.doctor.host.clock import CLOCK
from unlatch.doctor.host.containers import CONTAINER_PORTS
from unlatch.doctor.host.login_accounts import LOGIN_ACCOUNTS
from unlatch.doctor.host.login_keys import LOGIN_KEYS
from unlatch.doctor.host.logins import LOGIN_GRACE, LOGINS
from unlatch.doctor.host.notifiers import NOTIFIERS
from unlatch.doctor.host.page import PAGE
from unlatch.doctor.host.page_address import PAGE_ADDRESS
from unlatch.doctor.host.page_socket import PAGE_SOCKET
from unlatch.doctor.host.page_way import PAGE_ANSWERS, PAGE_HEADERS, PLAIN_HTTP, TLS_END
from unlatch.doctor.host.settings import CONFIG
from unlatch.doctor.host.storage import STORAGE
from unlatch.doctor.host.units import BROKER_UNITS, SYSTEM_USER
from unlatch.doctor.host.users import ONE_NOTIFIER, OTHER_USERS

CHECKS: Checks = (
    CONFIG,
    SYSTEM_USER,
    BROKER_UNITS,
    BROKER,
    BROKER_VERSION,
    STORAGE,
    CLOCK,
    OTHER_USERS,
    NOTIFIERS,
    ONE_NOTIFIER,
    PAGE_ADDRESS,
    PAGE_SOCKET,
    PAGE,
    CERTIFICATE,
    TLS_END,
    PAGE_HEADERS,
    PAGE_ANSWERS,
    PLAIN_HTTP,
    PAGE_FINGERPRINT,
    CLIENT_ADDRESS,
    CONTAINER_PORTS,
    BOOT_ORDER,
    LOGINS,
    LOGIN_GRACE,
    LOGIN_KEYS,
    LOGIN_ACCOUNTS,
)
