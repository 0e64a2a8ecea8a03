"""The software security key of these tests, held against python-fido2's own client, which knows nothing of it."""

import hashlib
from threading import Event
from typing import Any

import pytest
from ctap.key import Key
from ctap.port import Hub, opened
from fido2.client import ClientError, DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.cose import CoseKey
from fido2.ctap import CtapError
from fido2.ctap2.base import Ctap2
from fido2.ctap2.extensions import HmacSecretExtension
from fido2.ctap2.pin import ClientPin, PinProtocolV1, PinProtocolV2
from fido2.hid import CTAPHID
from fido2.webauthn import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRequestOptions,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    UserVerificationRequirement,
)

PIN, WRONG = "123456", "654321"
PUBLIC_KEY = PublicKeyCredentialType.PUBLIC_KEY


class Person(UserInteraction):
    """Knows the PIN."""

    def request_pin(self, permissions: Any, rp_id: str | None) -> str:
        return PIN


class Client:
    """The browser's side."""

    def __init__(self, key: Key) -> None:
        self.device, self.hub = opened(key)
        collector = DefaultClientDataCollector("https://example.org")
        self.client = Fido2Client(self.device, collector, Person(), [HmacSecretExtension(allow_hmac_secret=True)])
        self.ctap = Ctap2(self.device)

    def make(self, uv: str = "discouraged") -> bytes:
        """A credential with hmac-secret."""
        made = self.client.make_credential(
            PublicKeyCredentialCreationOptions(
                rp=PublicKeyCredentialRpEntity(id="example.org", name="Example"),
                user=PublicKeyCredentialUserEntity(id=b"alex", name="alex", display_name="Alex"),
                challenge=b"challenge",
                pub_key_cred_params=[PublicKeyCredentialParameters(type=PUBLIC_KEY, alg=-7)],
                authenticator_selection=AuthenticatorSelectionCriteria(
                    user_verification=UserVerificationRequirement(uv)
                ),
                extensions={"hmacCreateSecret": True},
            )
        )
        data = made.response.attestation_object.auth_data
        assert data.credential_data is not None
        self.public_key: CoseKey = data.credential_data.public_key
        assert made.client_extension_results.hmac_create_secret
        return bytes(data.credential_data.credential_id)

    def get(self, credential: bytes, *salts: bytes, uv: str = "discouraged") -> list[bytes]:
        """The outputs for these salts; the assertion's signature is checked."""
        wanted = dict(zip(("salt1", "salt2"), salts, strict=False))
        selection = self.client.get_assertion(
            PublicKeyCredentialRequestOptions(
                challenge=b"challenge",
                rp_id="example.org",
                allow_credentials=[PublicKeyCredentialDescriptor(type=PUBLIC_KEY, id=credential)],
                user_verification=UserVerificationRequirement(uv),
                extensions={"hmacGetSecret": wanted} if salts else None,
            )
        )
        (assertion,) = selection.get_assertions()
        response = selection.get_response(0)
        assertion.verify(hashlib.sha256(response.response.client_data).digest(), self.public_key)
        assert bool(assertion.auth_data.flags & assertion.auth_data.FLAG.UV) == (uv == "required")
        if not salts:
            return []
        outputs = response.client_extension_results.hmac_get_secret
        return [output for output in (outputs.output1, outputs.output2) if output]


SALTS = [bytes([number]) * 32 for number in range(3)]


@pytest.mark.parametrize("protocols", [(2, 1), (1,), (2,)])
@pytest.mark.parametrize("pin", ["", PIN])
def test_the_librarys_client_works_with_it(protocols: tuple[int, ...], pin: str) -> None:
    """Making a credential and getting one and two outputs, with either PIN protocol."""
    client = Client(Key(pin=pin, protocols=protocols))
    credential = client.make("required" if pin else "discouraged")
    both = client.get(credential, SALTS[0], SALTS[1])
    assert client.get(credential, SALTS[0]) == both[:1]
    assert client.get(credential, SALTS[1], SALTS[2])[0] == both[1]
    assert len(set(both)) == 2
    if pin:
        verified = client.get(credential, SALTS[0], SALTS[1], uv="required")
        assert not set(verified) & set(both)
    client.device.close()


def test_each_credential_and_key_has_its_own_outputs() -> None:
    """Another credential, and another key, give something else; the same key after plugging in gives the same."""
    key = Key()
    client = Client(key)
    first, second = client.make(), client.make()
    outputs = client.get(second, SALTS[0])
    client.hub.replug(key)
    again = Ctap2(client.hub.ports()[0].open())
    assert again.get_assertion("example.org", bytes(32), [{"type": "public-key", "id": first}], options={"up": False})
    assert Client(Key()).ctap.info.aaguid == client.ctap.info.aaguid
    twin = Client(Key())
    twin.public_key = client.public_key
    assert twin.get(second, SALTS[0]) == outputs
    with pytest.raises(ClientError):
        Client(Key(b"two")).get(first, SALTS[0])


def test_no_credential_of_another_relying_party_is_known() -> None:
    """A credential belongs to its relying party."""
    client = Client(Key())
    with pytest.raises(CtapError) as refused:
        client.ctap.get_assertion("example.com", bytes(32), [{"type": "public-key", "id": client.make()}])
    assert refused.value.code == CtapError.ERR.NO_CREDENTIALS


@pytest.mark.parametrize("protocol", [PinProtocolV1, PinProtocolV2])
def test_the_pin_is_set_and_changed_by_the_library(protocol: type[PinProtocolV1]) -> None:
    """Setting, changing and using a PIN; only the new one counts."""
    key = Key()
    client = Client(key)
    pins = ClientPin(client.ctap, protocol())
    with pytest.raises(CtapError, match="PIN_NOT_SET"):
        pins.get_pin_retries()
    pins.set_pin(WRONG)
    pins.change_pin(WRONG, PIN)
    pins = ClientPin(Ctap2(client.device), protocol())
    assert pins.get_pin_token(PIN, ClientPin.PERMISSION.GET_ASSERTION, "example.org")
    with pytest.raises(CtapError, match="PIN_INVALID"):
        pins.get_pin_token(WRONG, ClientPin.PERMISSION.GET_ASSERTION, "example.org")
    assert key.pins.given == [True, True, False]


def test_wrong_pins_are_counted() -> None:
    """Three in a row block it until it is plugged in anew, eight for good; a right one counts anew."""
    key = Key(pin=PIN)
    hub = Hub(key)

    def give(pin: str) -> str:
        pins = ClientPin(Ctap2(hub.ports()[0].open()))
        try:
            pins.get_pin_token(pin, ClientPin.PERMISSION.GET_ASSERTION, "example.org")
        except CtapError as error:
            return f"{error.code.name} {pins.get_pin_retries()[0]}"
        return f"right {pins.get_pin_retries()[0]}"

    assert [give(WRONG), give(WRONG), give(PIN)] == ["PIN_INVALID 7", "PIN_INVALID 6", "right 8"]
    assert [give(WRONG) for _ in range(3)] == ["PIN_INVALID 7", "PIN_INVALID 6", "PIN_AUTH_BLOCKED 5"]
    assert give(PIN) == "PIN_AUTH_BLOCKED 5"
    hub.replug(key)
    assert [give(WRONG) for _ in range(3)] == ["PIN_INVALID 4", "PIN_INVALID 3", "PIN_AUTH_BLOCKED 2"]
    hub.replug(key)
    assert [give(WRONG), give(WRONG), give(PIN)] == ["PIN_INVALID 1", "PIN_BLOCKED 0", "PIN_BLOCKED 0"]
    assert len(key.pins.given) == 11


def test_a_touch_uses_a_token_up() -> None:
    """A token of CTAP 2.1 is good for one touch, and for its relying party; the older ones for all."""
    for tokens in (True, False):
        client = Client(Key(pin=PIN, tokens=tokens))
        token = ClientPin(client.ctap).get_pin_token(PIN, ClientPin.PERMISSION.GET_ASSERTION, "example.org")
        known = [{"type": "public-key", "id": client.make()}]
        token = ClientPin(client.ctap).get_pin_token(PIN, ClientPin.PERMISSION.GET_ASSERTION, "example.org")
        proof = PinProtocolV2().authenticate(token, bytes(32))
        client.ctap.get_assertion("example.org", bytes(32), known, pin_uv_param=proof, pin_uv_protocol=2)
        if tokens:
            with pytest.raises(CtapError, match="PIN_AUTH_INVALID"):
                client.ctap.get_assertion("example.org", bytes(32), known, pin_uv_param=proof, pin_uv_protocol=2)
        else:
            client.ctap.get_assertion("example.org", bytes(32), known, pin_uv_param=proof, pin_uv_protocol=2)


def test_without_touch_it_proves_possession_only() -> None:
    """With up=false a credential can be looked for; hmac-secret is refused, unless it is an older key."""
    for untouched in (False, True):
        key = Key(untouched=untouched)
        client = Client(key)
        known = [{"type": "public-key", "id": client.make()}]
        key.finger.there = False
        assert client.ctap.get_assertion("example.org", bytes(32), known, options={"up": False})
        extension = HmacSecretExtension(allow_hmac_secret=True)
        options = PublicKeyCredentialRequestOptions(
            challenge=b"", rp_id="example.org", extensions={"hmacGetSecret": {"salt1": SALTS[0]}}
        )
        processing = extension.get_assertion(client.ctap, options, PinProtocolV2())
        assert processing is not None
        inputs = processing.prepare_inputs(None, None)
        if untouched:
            assert client.ctap.get_assertion("example.org", bytes(32), known, inputs, {"up": False})
        else:
            with pytest.raises(CtapError, match="UNSUPPORTED_OPTION"):
                client.ctap.get_assertion("example.org", bytes(32), known, inputs, {"up": False})


def test_it_waits_for_a_finger_and_can_be_cancelled() -> None:
    """It says that it waits, ten times a second; CTAPHID_CANCEL ends that, and so does its own patience."""
    key = Key()
    client = Client(key)
    told: list[int] = []
    key.finger.there = False
    before = client.hub.clock.now
    cancel = Event()

    def waits(status: int) -> None:
        told.append(status)
        cancel.set()

    with pytest.raises(CtapError, match="KEEPALIVE_CANCEL"):
        client.ctap.selection(event=cancel, on_keepalive=waits)
    assert told == [2]
    assert client.hub.side(key).cancelled == 1
    with pytest.raises(CtapError, match="USER_ACTION_TIMEOUT"):
        client.ctap.selection()
    assert client.hub.clock.now - before >= 60
    key.finger.there = True
    client.ctap.selection()


def test_its_packets_are_those_of_ctaphid() -> None:
    """Long messages in order, a channel for each program, one transaction at a time, errors for what is broken."""
    key = Key()
    device, hub = opened(key)
    message = bytes(range(256)) * 4
    assert device.ping(message) == message
    other = hub.ports()[0].open()
    assert other._channel_id != device._channel_id
    with pytest.raises(CtapError, match="INVALID_COMMAND"):
        device.call(CTAPHID.LOCK, b"\1")
    assert device.call(CTAPHID.CBOR, b"\x77") == bytes([CtapError.ERR.INVALID_COMMAND])
    stranger = hub.ports()[0].open()
    stranger._channel_id = 77
    with pytest.raises(CtapError, match="INVALID_CHANNEL"):
        stranger.ping(b"x")
    key.finger.there = False
    cancelled = Event()
    waiting = Ctap2(device)

    def busy(status: int) -> None:
        cancelled.set()
        gone = Event()
        gone.set()
        with pytest.raises(CtapError, match="CHANNEL_BUSY"):
            other.call(CTAPHID.PING, b"x", gone)

    with pytest.raises(CtapError, match="KEEPALIVE_CANCEL"):
        waiting.selection(event=cancelled, on_keepalive=busy)
    assert other.ping(b"x") == b"x"
