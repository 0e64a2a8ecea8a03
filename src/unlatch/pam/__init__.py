"""Logins, behind ``pam_unlatch.so``. ``service`` accepts them, ``login`` converses, everything else serves that."""
