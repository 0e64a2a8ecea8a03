"""What holds for the whole machine: broker, page, notifiers, clock. These probes run as whoever calls doctor.

A new check is a file with Facts, ``probe``, ``judge`` and a ``Check``; a place in ``CHECKS``; its row in docs/doctor.md;
and two tests in a tests/test_doctor_*.py called ``test_NAME_fails...`` and ``test_NAME_passes...``
(tests/test_doctor_registry.py holds that).
"""

from unlatch.doctor.check import Checks

CHECKS: Checks = ()
