"""What lies between bytes and commands: command chaining, GET RESPONSE, and the power that can be lost.

ISO 7816-4 5.3.3 and 5.3.4. The application above sees whole commands and gives whole answers.
"""

from collections.abc import Callable

from card import apdu
from card.apdu import Command, Status

GET_RESPONSE = 0xC0
SHORT = 256  # the longest answer to a command with a short length
_LONGEST = 16 * 1024  # of a chain; more is an attack on the card

Application = Callable[[Command], bytes]


class Channel:
    """One card's side of the line, since power came on."""

    def __init__(self, application: Application, extended: bool) -> None:
        self._application = application
        self._extended = extended
        self._chain: list[Command] = []
        self._left = b""

    def exchange(self, raw: bytes) -> bytes:
        """A command's bytes in, the answer's bytes and status word out."""
        try:
            data, word = self._answer(apdu.parse(raw))
        except Status as status:
            data, word = b"", status.word
        return data + word.to_bytes(2, "big")

    def _answer(self, command: Command) -> tuple[bytes, int]:
        if command.extended and not self._extended:
            raise Status(apdu.WRONG_LENGTH)
        if command.ins == GET_RESPONSE:
            if not self._left:
                raise Status(apdu.CONDITIONS_NOT_SATISFIED)
            return self._piece(self._left, command)
        self._left = b""
        if self._chain and (command.ins, command.p) != (self._chain[0].ins, self._chain[0].p):
            self._chain.clear()
            raise Status(apdu.LAST_OF_CHAIN_EXPECTED)
        if command.chained:
            self._chain.append(command)
            if sum(len(part.data) for part in self._chain) > _LONGEST:
                self._chain.clear()
                raise Status(apdu.WRONG_LENGTH)
            return b"", apdu.OK
        whole = command._replace(data=b"".join(part.data for part in [*self._chain, command]))
        self._chain.clear()
        return self._piece(self._application(whole), command)

    def _piece(self, data: bytes, command: Command) -> tuple[bytes, int]:
        """As much as this command can take; the rest waits for GET RESPONSE."""
        room = len(data) if command.extended else SHORT
        data, self._left = data[:room], data[room:]
        if self._left:
            return data, apdu.MORE | (len(self._left) & 0xFF if len(self._left) < SHORT else 0)
        return data, apdu.OK
