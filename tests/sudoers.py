"""A service user who may become root with a password; PAM and sudoers are those of a private namespace."""

import contextlib
import subprocess
from collections.abc import Iterator

from house import House
from real import real
from service_user import NAME, ServiceUser


@contextlib.contextmanager
def sudoer_of(house: House, password: bytes) -> Iterator[ServiceUser]:
    """The house's user, with this password and the right to become anybody."""
    real("sudo")
    place = house.root / ".config" / "unlatch"
    place.mkdir(parents=True)
    house.settings.rename(place / "unlatch.toml")
    etc = house.root / "etc"
    etc.mkdir()
    hashed = house.run("openssl", "passwd", "-6", "-stdin", feed=password).decode().strip()
    (etc / "shadow").write_text(f"{NAME}:{hashed}:20000:0:99999:7:::\n")
    (etc / "pam").write_text("auth required pam_unix.so nodelay\naccount required pam_permit.so\n")
    (etc / "sudoers").write_text(f"Defaults timestamp_timeout=0, passwd_tries=2\n{NAME} ALL=(ALL) ALL\n")
    user = ServiceUser(house)
    places = {"pam": "/etc/pam.d/sudo", "sudoers": "/etc/sudoers", "shadow": "/etc/shadow"}
    over = "".join(f"mount --bind {etc}/{name} {place}; " for name, place in places.items())
    prepare = f"chown -R 0:0 {etc}; chmod 440 {etc}/sudoers; mount -t tmpfs none /etc/sudoers.d; {over}"
    subprocess.run([*user.enter, "sh", "-ec", prepare], check=True, timeout=30)
    try:
        yield user
    finally:
        user.close()
