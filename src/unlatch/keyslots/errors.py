"""What can go wrong with a stored secret. The texts are printable and quote nothing of a secret."""

from unlatch.errors import UnlatchError


class SecretError(UnlatchError):
    """The root of the errors of stored secrets."""


class NoSuchSecret(SecretError):
    """There is no secret of this name."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(f"there is no stored secret {name}")
        self.name = name
        self.path = path


class SecretExists(SecretError):
    """There is a secret of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a stored secret {name} already")
        self.name = name


class BadName(SecretError):
    """A name that no stored secret can have."""

    def __init__(self) -> None:
        super().__init__("a secret's name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit")


class BadSecretFile(SecretError):
    """A file that is no stored secret of ours, or is damaged. ``why`` names the field or the fault."""

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(f"{path or 'the file'}: {why}")
        self.why = why
        self.path = path


class Unsafe(SecretError):
    """The directory or a file in it belongs to somebody else, or is open to others."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class SlotFailed(SecretError):
    """A keyslot did not open. ``why`` is for people; ``hint`` the next thing to do, or empty."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


class WrongKey(SecretError):
    """What was given does not open this slot: a wrong passphrase, another key. Carries nothing on purpose."""

    def __init__(self) -> None:
        super().__init__("this does not open the keyslot")


class Changed(SecretError):
    """Another process rotated, renamed or removed the secret meanwhile."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another process changed {name} meanwhile")
        self.name = name


class Busy(SecretError):
    """Another process holds the lock of a secret for too long."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another process is working on {name}")
        self.name = name


class NotForThisUnit(SecretError):
    """``allow_units`` of the secret does not name the systemd unit of this process."""

    def __init__(self, name: str, units: tuple[str, ...]) -> None:
        super().__init__(f"{name} is only for its units, and this process is in {', '.join(units) or 'none'}")
        self.name = name
        self.units = units
