"""The lines that make a service ask us, as ``unlatch pam test`` prints them and docs/logins.md explains them. Pure."""

AFTER = "auth required pam_unlatch.so after_first_factor"
ALONE = "auth required pam_unlatch.so"
COMMON = "@include common-auth"
SPARE = 60  # seconds that sshd and login wait beyond a challenge's: for the first factor, and for a slow network


def lines(service: str, seconds: int, *, there: bool = True) -> list[str]:
    """What to write where, for a service of /etc/pam.d, whose file may not be ``there`` yet; ``seconds`` is how long a
    challenge lasts.
    """
    if service == "sshd":
        return [
            f'# /etc/pam.d/sshd, in place of "{COMMON}":',
            ALONE,
            "# /etc/ssh/sshd_config.d/10-unlatch.conf:",
            "UsePAM yes",
            "KbdInteractiveAuthentication yes",
            "PasswordAuthentication no",
            f"LoginGraceTime {seconds + SPARE}",
            "AuthenticationMethods publickey,keyboard-interactive",
            "# and before that a user whom it does not ask, as the way around it",
        ]
    if not there:
        return [f"# /etc/pam.d/{service}, which is not there yet:", COMMON, AFTER, "@include common-account"]
    below = [f'# /etc/pam.d/{service}, below "{COMMON}" or whatever asks for the password there:', AFTER]
    if service == "login":
        below += ["# /etc/login.defs, which hangs up after a minute:", f"LOGIN_TIMEOUT {seconds + SPARE}"]
    return below
