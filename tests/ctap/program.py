"""``unlatch`` on a host where software keys are plugged in; $KEYS says which: a list of seed, PIN and options.

``{"seed": "one", "pin": "1234", "finger": 3}``: the finger comes after so many looks; null is never.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ctap.key import Finger, Key
from ctap.port import Hub
from unlatch.cli.main import main
from unlatch.keyslots import fido2


def key(words: dict[str, object]) -> Key:
    """One key as it is told of."""
    finger = words.pop("finger", 0)
    made = Key(str(words.pop("seed", "one")).encode(), **words)  # type: ignore[arg-type]
    made.finger = Finger(there=finger is not None, after=int(str(finger or 0)))
    return made


hub = Hub(*map(key, json.loads(os.environ["KEYS"])))
fido2.kind = fido2.Fido2(hub.ports, hub.clock, hub.clock.pass_by)
main()
