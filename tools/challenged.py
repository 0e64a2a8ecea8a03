"""Have the host's service make challenges: challenged.py COUNT AT-ONCE prints how many seconds it took (bench_pam.py).

It speaks as the module does (docs/protocol.md section 8), up to the prompt, and hangs up.
"""

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

PLACE = "/run/unlatch-pam/pam.sock"
HELLO = b"".join(field + b"\0" for field in (b"unlatch-pam-1", b"sshd", b"alice", b"bench", b"", b"ssh", b"", b""))
LARGEST = 32768


def challenge(remote: int) -> None:
    """One, up to its prompt."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as module:
        module.settimeout(30)
        module.connect(PLACE)
        module.send(HELLO.replace(b"bench", b"192.0.2.%d" % remote))
        said = b""
        while not said.startswith(b"ask\0"):
            said = module.recv(LARGEST)
            if said.split(b"\0")[0] not in (b"say", b"ask", b"wait"):
                raise RuntimeError(f"the service says {said[:60]!r}")


def main() -> None:
    """Share them among as many threads as there shall be at once."""
    count, at_once = map(int, sys.argv[1:])

    def work(number: int) -> None:
        for _ in range(count // at_once):
            challenge(number)

    start = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(at_once)))  # which raises what one of them raised
    print(time.monotonic() - start)


if __name__ == "__main__":
    main()
