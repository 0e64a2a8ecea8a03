"""What holds for the whole machine: broker, page, notifiers, clock. These probes run as whoever calls doctor."""

from unlatch.doctor.check import Checks

CHECKS: Checks = ()
