"""The same message by matrix-nio, in a process of its own: what `make bench` compares ours with.

    .make/nio/bin/python tools/nio_send.py login DIRECTORY URL USER PASSWORD ROOM   (once; throw-away accounts only)
    .make/nio/bin/python tools/nio_send.py send DIRECTORY TEXT                      (a cold process)

It does what the library's own examples do for a bot that must send now: restore the login, sync once, because without
the room's members nothing can be encrypted, send.
"""

import asyncio
import json
import resource
import sys
from pathlib import Path

from nio import (  # type: ignore[import-not-found]  # it is in .make/nio, not in our .venv
    AsyncClient,
    AsyncClientConfig,
    JoinError,
    LoginError,
    RoomSendResponse,
    SyncError,
)


def client_in(directory: Path, url: str, user: str) -> AsyncClient:
    """A client that keeps its keys in a directory."""
    return AsyncClient(url, user, store_path=str(directory), config=AsyncClientConfig(store_sync_tokens=True))


async def login(directory: Path, url: str, user: str, password: str, room: str) -> None:
    """Log in once, join, publish keys; leave what the next process needs."""
    client = client_in(directory, url, user)
    done = await client.login(password, "bench")
    assert not isinstance(done, LoginError), done
    assert not isinstance(await client.join(room), JoinError)
    assert not isinstance(await client.sync(full_state=True), SyncError)
    if client.should_upload_keys:
        await client.keys_upload()
    kept = {"url": url, "user": client.user_id, "device": client.device_id, "token": client.access_token, "room": room}
    (directory / "login.json").write_text(json.dumps(kept))
    await client.close()


async def send(directory: Path, text: str) -> None:
    """One encrypted message."""
    kept = json.loads((directory / "login.json").read_text())
    client = client_in(directory, kept["url"], kept["user"])
    client.restore_login(kept["user"], kept["device"], kept["token"])
    synced = await client.sync(timeout=0, full_state=True)
    assert not isinstance(synced, SyncError), synced
    content = {"msgtype": "m.text", "body": text}
    sent = await client.room_send(kept["room"], "m.room.message", content, ignore_unverified_devices=True)
    assert isinstance(sent, RoomSendResponse), sent
    print(json.dumps({"event_id": sent.event_id, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    await client.close()


if __name__ == "__main__":
    word, place, *rest = sys.argv[1:]
    asyncio.run(login(Path(place), *rest) if word == "login" else send(Path(place), *rest))
