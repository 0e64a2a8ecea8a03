"""Where the Matrix state lies when nobody says where: systemd's place for a service, else the user's own."""

from collections.abc import Mapping


def state_directory(chosen: str, environ: Mapping[str, str]) -> str:
    """The directory of the state; ``chosen`` is what the settings say, or nothing."""
    service = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd.exec(5), StateDirectory=
    return chosen or (f"{service}/matrix" if service else f"{environ.get('HOME') or '/'}/.local/state/unlatch/matrix")
