"""An OpenPGP card, version 3.4, in software: commands in, answers out, nothing of readers.

Made from "Functional Specification of the OpenPGP application on ISO Smart Card Operating Systems", version 3.4.1;
numbers in parentheses are its sections. Left out because no program here uses it: secure messaging, AES, KDF,
attestation, user interaction flags, MANAGE SECURITY ENVIRONMENT and the second and third certificate.

It is as strict as a card may be: a PIN that is too short costs a try, selecting the application again forgets what was
verified, and only CHANGE REFERENCE DATA itself knows where the old value ends.
"""

import copy
import os
import threading
from collections.abc import Callable

from card import algorithms, apdu, keys, objects, pins, tlv
from card.account import Account
from card.algorithms import SLOTS, Slot
from card.apdu import Command, Status
from card.channel import Channel
from card.objects import Objects
from card.pins import Attempt, Passwords, Result, Tries

PIN, ADMIN_PIN = b"123456", b"12345678"  # a new card's
_ISO_CLASS = 0x00
_CRT = {0xB6: 0, 0xB8: 1, 0xA4: 2}  # control reference templates -> slot


class Card:
    """One card: what is on it, and what it was asked. All methods may be called from any thread.

    Args:
        serial: the serial number, 32 bits; ``application_id`` is what scdaemon makes of it.
        extended: whether it takes commands with extended length; if not, long ones have to come chained.
        tells_tries: a wrong password is answered with 63Cx as by a Nitrokey 3, not with 6982 as the specification
            has it (7.1), and a blocked one with 63C0 instead of 6983.
    """

    def __init__(self, serial: int = 1, *, extended: bool = True, tells_tries: bool = False) -> None:
        self.serial = serial
        self.extended = extended
        self._tells_tries = tells_tries
        self.powered = 0  # how often power came on
        self.account = Account()
        self._lock = threading.RLock()
        self._terminated = False
        self._record: list[Attempt] = []
        self._made = 0  # keys that were generated
        self._blank()
        self.power_on()

    def copy(self, serial: int | None = None) -> "Card":
        """Another card with the same content and nothing in its record."""
        twin = Card(self.serial if serial is None else serial, extended=self.extended, tells_tries=self._tells_tries)
        with self._lock:
            twin._objects, twin._passwords = copy.deepcopy(self._objects), self._passwords.copy(twin._record)
            twin._keys, twin._origins, twin._algorithms = [*self._keys], [*self._origins], [*self._algorithms]
            twin._signatures, twin._made = self._signatures, self._made
        return twin

    # What a test looks at.

    @property
    def application_id(self) -> str:
        """The serial number as scdaemon writes it: 32 hexadecimal digits, beginning with D276."""
        return objects.application_identifier(self.serial).hex().upper()

    def tries(self) -> Tries:
        """The tries left for PIN, resetting code and admin PIN."""
        with self._lock:
            return self._passwords.tries

    def verified(self, reference: int = pins.USE) -> bool:
        """Is the PIN verified: 82 for everything but signing, 81 for signing, 83 for the admin PIN?"""
        with self._lock:
            return reference in self._passwords.verified

    def record(self, password: str = "") -> list[Attempt]:
        """Every look at a password so far; "pin", "reset" or "admin" gives one password's."""
        with self._lock:
            return [attempt for attempt in self._record if password in ("", attempt.password)]

    def wrong_pin_count(self) -> int:
        """The tries spent so far, whichever password they were for."""
        return sum(attempt.result is Result.WRONG for attempt in self.record())

    def expect_wrong(self, count: int = 1, by: str = "unlatch card unlock") -> None:
        """Announce that this program, and no other, is about to spend so many tries."""
        self.account.expect(count, by)

    def submitted(self, password: str = "pin") -> int:
        """How often a value was submitted for this password, right or wrong."""
        return sum(attempt.result is not Result.ASKED for attempt in self.record(password))

    def has_key(self, slot: str) -> bool:
        """Is there a key in the slot "sign", "decrypt" or "auth"?"""
        with self._lock:
            return self._keys[SLOTS.index(slot)] is not None

    def signatures(self) -> int:
        """The signature counter (93)."""
        return self._signatures

    # What a test prepares, without spending anything.

    def set_pin(self, value: bytes = PIN, tries: int = pins.TRIES) -> None:
        """Give the PIN this value and so many tries."""
        self._set(self._passwords.pin, value, tries)

    def set_admin_pin(self, value: bytes = ADMIN_PIN, tries: int = pins.TRIES) -> None:
        """Give the admin PIN this value and so many tries."""
        self._set(self._passwords.admin, value, tries)

    def set_resetting_code(self, value: bytes, tries: int = pins.TRIES) -> None:
        """Give the resetting code this value and so many tries."""
        self._set(self._passwords.reset, value, tries)

    def set_forcesig(self, forced: bool) -> None:
        """Whether each signature needs the PIN anew (C4, first byte)."""
        with self._lock:
            self._passwords.several_signatures = not forced

    def set_algorithm(self, slot: str, algorithm: str) -> None:
        """What keys of a slot are made of: "rsa2048", "rsa3072", "rsa4096", "ed25519", "cv25519", "nistp256"."""
        number = SLOTS.index(slot)
        with self._lock:
            self._set_algorithm(number, algorithms.named(number, algorithm).attributes())

    def generate(self, slot: str, algorithm: str) -> None:
        """Put a new key into a slot."""
        self.set_algorithm(slot, algorithm)
        with self._lock:
            self._generate(SLOTS.index(slot))

    # What a reader does.

    def power_on(self) -> None:
        """Power came (back) on: nothing is verified, nothing is selected. Also what a reset does."""
        with self._lock:
            self.powered += 1
            self._selected = False
            self._passwords.verified.clear()
            self._channel = Channel(self._answer, self.extended)

    def answer_to_reset(self) -> bytes:
        """The ATR: T=1 alone, and the historical bytes."""
        historical = objects.historical_bytes(self.extended, not self._terminated)
        atr = bytes([0x80 | len(historical), 0x81, 0x31, 0xFE, 0x45]) + historical
        check = 0
        for byte in atr:
            check ^= byte
        return b"\x3b" + atr + bytes([check])

    def exchange(self, raw: bytes) -> bytes:
        """One command, one answer with its status word."""
        with self._lock:
            return self._channel.exchange(raw)

    # The application.

    def _answer(self, command: Command) -> bytes:
        if command.cls & ~apdu.CHAINED != _ISO_CLASS:
            raise Status(apdu.UNKNOWN_CLASS)
        if command.ins == 0xA4:
            return self._select(command)
        if not self._selected:
            raise Status(apdu.CONDITIONS_NOT_SATISFIED)
        if self._terminated and command.ins != 0x44:
            raise Status(apdu.TERMINATED)
        handler = self._handlers().get(command.ins)
        if handler is None:
            raise Status(apdu.UNKNOWN_INSTRUCTION)
        try:
            return handler(command) or b""
        except tlv.BadTLV:
            raise Status(apdu.WRONG_DATA) from None

    def _handlers(self) -> dict[int, Callable[[Command], bytes | None]]:
        return {
            0x20: self._verify,
            0x24: self._change_reference_data,
            0x2A: self._perform_security_operation,
            0x2C: self._reset_retry_counter,
            0x44: self._activate,
            0x47: self._generate_key_pair,
            0x84: self._get_challenge,
            0x88: self._internal_authenticate,
            0xCA: self._get_data,
            0xDA: self._put_data,
            0xDB: self._import_key,
            0xE6: self._terminate,
        }

    def _select(self, command: Command) -> bytes:
        """SELECT (7.2.1) by name; this card has one application. The beginning of its name is enough."""
        name = objects.application_identifier(self.serial)
        if command.p1 != 0x04 or not command.data or not name.startswith(command.data):
            raise Status(apdu.NOT_FOUND)
        self._selected = True
        self._passwords.verified.clear()
        return b""

    def _get_data(self, command: Command) -> bytes:
        """GET DATA (7.2.6)."""
        tag = command.p
        if tag in objects.READ_WITH:
            self._passwords.require(objects.READ_WITH[tag])
        if tag in objects.PLAIN:
            return self._objects.get(tag)
        reader = self._readers().get(tag)
        if reader is None:
            raise Status(apdu.UNKNOWN_DATA)
        return reader()

    def _readers(self) -> dict[int, Callable[[], bytes]]:
        return {
            0x4F: lambda: objects.application_identifier(self.serial),
            0x5F52: lambda: objects.historical_bytes(self.extended, not self._terminated),
            0x65: lambda: objects.holder(self._objects),
            0x6E: self._application_data,
            0x73: self._discretionary_data,
            0x7A: lambda: tlv.pack(0x93, self._signatures.to_bytes(3, "big")),
            0x7F66: objects.length_information,
            0x7F74: lambda: b"",  # general features: no display, no keypad, no fingerprint reader
            0x93: lambda: self._signatures.to_bytes(3, "big"),
            0xC0: objects.extended_capabilities,
            0xC1: self._algorithms[0].attributes,
            0xC2: self._algorithms[1].attributes,
            0xC3: self._algorithms[2].attributes,
            0xC4: self._passwords.status,
            0xC5: lambda: self._objects.get(0xC5),
            0xC6: lambda: self._objects.get(0xC6),
            0xCD: lambda: self._objects.get(0xCD),
            0xDE: self._key_information,
            0xFA: algorithms.information,
        }

    def _application_data(self) -> bytes:
        tags = [0x4F, 0x5F52, *([0x7F66] if self.extended else []), 0x73]
        return b"".join(tlv.pack(tag, self._readers()[tag]()) for tag in tags)

    def _discretionary_data(self) -> bytes:
        tags = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xCD, 0xDE)
        return b"".join(tlv.pack(tag, self._readers()[tag]()) for tag in tags)

    def _key_information(self) -> bytes:
        """For each key its number and whether it is absent, made here or imported."""
        return b"".join(bytes([number + 1, origin]) for number, origin in enumerate(self._origins))

    def _put_data(self, command: Command) -> None:
        """PUT DATA (7.2.8), one object."""
        tag, value = command.p, command.data
        self._passwords.require(objects.PLAIN[tag][1] if tag in objects.PLAIN else pins.ADMIN)
        if tag in (0xC1, 0xC2, 0xC3):
            self._set_algorithm(tag - 0xC1, value)
        elif tag == 0xC4:
            if len(value) < 1 or value[0] > 1:
                raise Status(apdu.WRONG_DATA)
            self._passwords.several_signatures = bool(value[0])
        elif tag == 0xD3:
            self._passwords.set_resetting_code(value)
        else:
            self._objects.put(tag, value)

    def _set_algorithm(self, slot: Slot, value: bytes) -> None:
        """Another algorithm ends the key that was there (4.4.3.9)."""
        algorithm = algorithms.parse(slot, value)
        if algorithm != self._algorithms[slot]:
            self._algorithms[slot] = algorithm
            self._keys[slot], self._origins[slot] = None, 0

    def _verify(self, command: Command) -> None:
        """VERIFY (7.2.2)."""
        if command.p1 not in (0x00, 0xFF) or (command.p1 and command.data):
            raise Status(apdu.WRONG_PARAMETERS)
        self._passwords.verify(command.p2, command.data, forget=command.p1 == 0xFF)

    def _change_reference_data(self, command: Command) -> None:
        """CHANGE REFERENCE DATA (7.2.3)."""
        if command.p1 or command.p2 == pins.USE:
            raise Status(apdu.WRONG_PARAMETERS)
        self._passwords.change(command.p2, command.data)

    def _reset_retry_counter(self, command: Command) -> None:
        """RESET RETRY COUNTER (7.2.4)."""
        if command.p1 not in (0x00, 0x02) or command.p2 != pins.SIGN:
            raise Status(apdu.WRONG_PARAMETERS)
        self._passwords.reset_pin(command.p1 == 0x02, command.data)

    def _generate_key_pair(self, command: Command) -> bytes:
        """GENERATE ASYMMETRIC KEY PAIR (7.2.14): make one, or read the public one again."""
        if not command.data or command.data[0] not in _CRT:
            raise Status(apdu.WRONG_DATA)
        slot = _CRT[command.data[0]]
        if command.p1 == 0x80:
            self._passwords.require(pins.ADMIN)
            self._generate(slot)
        elif command.p1 != 0x81:
            raise Status(apdu.WRONG_PARAMETERS)
        return tlv.pack(0x7F49, self._key(slot).public())

    def _generate(self, slot: Slot) -> None:
        # So that a key made again is another one, and no two slots have the same.
        self._put_key(slot, keys.generate(self._algorithms[slot], self._made), keys.GENERATED)
        self._made += 1

    def _import_key(self, command: Command) -> None:
        """PUT DATA with an extended header list (4.4.3.12): a key from outside."""
        if command.p != 0x3FFF:
            raise Status(apdu.UNKNOWN_DATA)
        self._passwords.require(pins.ADMIN)
        parts = tlv.unpack(tlv.find(command.data, 0x4D))
        slot = next((_CRT[tag] for tag, _ in parts if tag in _CRT), None)
        if slot is None:
            raise Status(apdu.WRONG_DATA)
        template, values = (next((value for tag, value in parts if tag == wanted), b"") for wanted in (0x7F48, 0x5F48))
        self._put_key(slot, keys.imported(self._algorithms[slot], template, values), keys.IMPORTED)

    def _put_key(self, slot: Slot, key: keys.Key, origin: int) -> None:
        self._keys[slot], self._origins[slot] = key, origin
        if slot == SLOTS.index("sign"):
            self._signatures = 0

    def _perform_security_operation(self, command: Command) -> bytes:
        """COMPUTE DIGITAL SIGNATURE (7.2.10) and DECIPHER (7.2.11)."""
        if command.p == 0x9E9A:
            self._passwords.require(pins.SIGN)
            signature = self._key(0).sign(command.data)
            self._signatures += 1
            self._passwords.signed()
            return signature
        if command.p == 0x8086:
            self._passwords.require(pins.USE)
            return self._key(1).decipher(command.data)
        raise Status(apdu.WRONG_PARAMETERS)

    def _internal_authenticate(self, command: Command) -> bytes:
        """INTERNAL AUTHENTICATE (7.2.13)."""
        if command.p:
            raise Status(apdu.WRONG_PARAMETERS)
        self._passwords.require(pins.USE)
        return self._key(2).sign(command.data)

    def _key(self, slot: Slot) -> keys.Key:
        key = self._keys[slot]
        if key is None:
            raise Status(apdu.UNKNOWN_DATA)
        return key

    def _get_challenge(self, command: Command) -> bytes:
        """GET CHALLENGE (7.2.15)."""
        if command.p or not 0 < command.wanted <= objects.MAX_CHALLENGE + 1:
            raise Status(apdu.WRONG_PARAMETERS)
        return os.urandom(command.wanted)

    def _terminate(self, command: Command) -> None:
        """TERMINATE DF (7.2.16): by the admin, or by anybody when nobody can be the admin any more."""
        if self._passwords.admin.tries:
            self._passwords.require(pins.ADMIN)
        self._terminated = True

    def _activate(self, command: Command) -> None:
        """ACTIVATE FILE (7.2.17): a terminated card is new again; otherwise nothing happens."""
        if self._terminated:
            self._blank()
            self._terminated = False

    def _blank(self) -> None:
        """The content of a new card. Only the record of what it was asked outlives it."""
        self._objects = Objects()
        self._passwords = Passwords(self._record, self._tells_tries)
        self._algorithms = [algorithms.FACTORY] * len(SLOTS)
        self._keys: list[keys.Key | None] = [None] * len(SLOTS)
        self._origins = [0] * len(SLOTS)
        self._signatures = 0

    def _set(self, password: pins.Password, value: bytes, tries: int) -> None:
        with self._lock:
            password.set(value)
            password.tries = tries
