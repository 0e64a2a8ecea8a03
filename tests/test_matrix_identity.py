"""Who gets keys: only devices under a pinned master key; everybody else is skipped with a reason."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_server import House, KeyServer

from unlatch.matrix.crypto import Machine
from unlatch.matrix.errors import Refused, Untrusted
from unlatch.matrix.identity import Pin, Reason, decide, read_identity

ALEX = "@alex:example.org"
BOT = "@bot:example.org"


@pytest.fixture
def house() -> House:
    return House()


def decided(house: House, *members: str) -> tuple[list[str], set[tuple[str, str, str]]]:
    house.query()
    found = house.bot.recipients(members or house.members)
    return [device.device_id for device in found.devices], set(found.skipped)


def second_phone(house: House, signed: bool) -> Machine:
    """Another login of the admin's, signed by the first one's self-signing key or not."""
    other = Machine.create(ALEX, "TABLET")
    house.server.upload(other)
    if signed:
        keys = house.server.devices[ALEX]["TABLET"]
        house.server.devices[ALEX]["TABLET"] = house.phone._cross.sign("self_signing", keys)
    return other


def test_a_verified_device_of_a_pinned_admin_is_told(house: House) -> None:
    """The phone under the pinned master key gets keys, and nobody is skipped."""
    assert decided(house) == (["PHONE"], set())


def test_a_signed_second_device_is_told_too(house: House) -> None:
    """The owner's signature is what counts, not the order of logins."""
    second_phone(house, signed=True)
    assert decided(house) == (["PHONE", "TABLET"], set())


def test_an_unsigned_device_is_told_nothing(house: House) -> None:
    """A login that its owner did not verify (or a homeserver made up) is skipped."""
    second_phone(house, signed=False)
    assert decided(house) == (["PHONE"], {(ALEX, "TABLET", Reason.UNSIGNED)})


def test_a_stranger_in_the_room_is_told_nothing(house: House) -> None:
    """A member that nobody pinned gets no keys, however well signed his devices are."""
    house.join("@eve:example.org", "EVE")
    house.server.query(house.bot, "@eve:example.org")
    devices, skipped = decided(house, *house.members, "@eve:example.org")
    assert devices == ["PHONE"]
    assert skipped == {("@eve:example.org", "", Reason.STRANGER)}


def test_a_reset_identity_is_told_nothing(house: House) -> None:
    """New cross-signing keys, with the same device signed by them, are not the pinned identity."""
    reset = Machine.create(ALEX, "PHONE")
    house.server.cross[ALEX] = reset.cross_signing_upload()
    keys = house.server.devices[ALEX]["PHONE"]
    house.server.devices[ALEX]["PHONE"] = reset._cross.sign("self_signing", keys)
    assert decided(house) == ([], {(ALEX, "", Reason.RESET)})


def test_an_admin_who_is_not_in_the_room_is_named(house: House) -> None:
    """So that status can say whom a ring cannot reach."""
    assert decided(house, BOT) == ([], {(ALEX, "", Reason.ABSENT)})


def test_no_identity_at_all(house: House) -> None:
    """A user whose cross-signing keys the server no longer shows is not trusted on old knowledge."""
    house.server.cross[ALEX] = {}
    assert decided(house) == ([], {(ALEX, "", Reason.NO_IDENTITY)})


def test_before_any_query_nobody_is_trusted(house: House) -> None:
    """A process that has not asked the server yet sends nothing."""
    fresh = Machine.load(house.bot.dump(b"k" * 32), b"k" * 32)
    assert fresh.recipients(house.members).devices == []


def test_another_self_signing_key_than_the_masters(house: House) -> None:
    """A self-signing key that the master key did not sign signs nothing."""
    other = Machine.create(ALEX, "PHONE").cross_signing_upload()["self_signing_key"]
    house.server.cross[ALEX]["self_signing_key"] = other
    assert decided(house) == ([], {(ALEX, "", Reason.BROKEN_IDENTITY)})


def test_a_master_key_of_another_user(house: House) -> None:
    """Cross-signing keys count only for the user they name."""
    eve = house.join("@eve:example.org", "EVE")
    house.server.cross[ALEX] = eve.cross_signing_upload()
    assert decided(house) == ([], {(ALEX, "", Reason.NO_IDENTITY)})


def test_a_key_of_another_usage_is_no_self_signing_key(house: House) -> None:
    """The user-signing key is signed by the master key as well, but may not sign devices."""
    cross = house.server.cross[ALEX]
    cross["self_signing_key"] = cross["user_signing_key"]
    keys = house.server.devices[ALEX]["PHONE"]
    house.server.devices[ALEX]["PHONE"] = house.phone._cross.sign("user_signing", keys)
    assert decided(house) == ([], {(ALEX, "", Reason.BROKEN_IDENTITY)})


def test_a_tampered_curve_key_breaks_a_device(house: House) -> None:
    """A homeserver that puts its own encryption key into a signed device finds it skipped."""
    eve = Machine.create(ALEX, "PHONE")
    house.server.devices[ALEX]["PHONE"]["keys"]["curve25519:PHONE"] = eve._device.curve25519
    assert decided(house) == ([], {(ALEX, "PHONE", Reason.BROKEN_DEVICE)})


def test_swapped_devices_are_broken(house: House) -> None:
    """A device's keys under another name, or another user's, are not that device."""
    second_phone(house, signed=True)
    devices = house.server.devices[ALEX]
    devices["PHONE"], devices["TABLET"] = devices["TABLET"], devices["PHONE"]
    assert decided(house)[0] == []
    house.server.devices[ALEX] = {"BOT": house.server.devices[BOT]["BOT"]}
    assert decided(house) == ([], {(ALEX, "BOT", Reason.BROKEN_DEVICE)})


def test_a_device_signature_is_needed_beside_the_owners(house: House) -> None:
    """The device must have signed its own keys too, else its keys could be another device's."""
    del house.server.devices[ALEX]["PHONE"]["signatures"][ALEX]["ed25519:PHONE"]
    assert decided(house) == ([], {(ALEX, "PHONE", Reason.BROKEN_DEVICE)})


def test_first_use_never_replaces_a_pin(house: House) -> None:
    """Trust on first use is for the first time only; emoji may replace, and first use does not lower emoji."""
    with pytest.raises(Untrusted):
        house.bot.pin(ALEX, "another", "first-use")
    house.bot.pin(ALEX, house.phone.master_key, "first-use")
    assert house.bot.pins[ALEX].verified == "emoji"
    house.bot.pin(ALEX, "another", "emoji")
    assert decided(house) == ([], {(ALEX, "", Reason.RESET)})
    house.bot.unpin(ALEX)
    assert decided(house) == ([], {(ALEX, "", Reason.STRANGER)})


def test_the_bot_is_cross_signed() -> None:
    """Setup's order: nothing, then ours, then the device signed; each step can be repeated."""
    server, bot = KeyServer(), Machine.create(BOT, "BOT")
    assert bot.own_identity() == "none"
    server.upload(bot)
    server.query(bot)
    assert (bot.own_identity(), bot.cross_signed()) == ("none", False)
    server.cross[BOT] = bot.cross_signing_upload()
    assert bot.cross_signing_upload() == server.cross[BOT]
    server.query(bot)
    assert (bot.own_identity(), bot.cross_signed()) == ("ours", False)
    assert set(bot.signatures_upload() or {}) == {BOT}
    server.signatures(bot)
    assert (bot.own_identity(), bot.cross_signed()) == ("ours", True)
    assert bot.signatures_upload() is None
    identity = bot.identities[BOT]
    assert list(identity.signed) == ["BOT"]
    server.cross[BOT] = Machine.create(BOT, "BOT").cross_signing_upload()
    server.query(bot)
    assert (bot.own_identity(), bot.cross_signed()) == ("foreign", False)


def test_the_bot_vouches_for_admins_verified_by_emoji_only() -> None:
    """The user-signing key signs what a person compared, so that clients show trust; never a first use."""
    house = House("first-use")
    assert house.bot.signatures_upload() is None
    house.bot.pin(ALEX, house.phone.master_key, "emoji")
    assert set(house.bot.signatures_upload() or {}) == {ALEX}
    house.server.signatures(house.bot)
    house.query()
    assert house.bot.signatures_upload() is None
    assert decided(house) == (["PHONE"], set())  # the admin's own signatures survived


def test_refused_signatures_say_why(house: House) -> None:
    """The server's reasons reach the person who runs setup."""
    failures: dict[str, Any] = {ALEX: {"key": {"errcode": "M_INVALID_SIGNATURE", "error": "wrong"}}}
    with pytest.raises(Refused, match="wrong"):
        house.bot.signatures_uploaded({"failures": failures})


def test_own_other_devices_and_names() -> None:
    """Our own user gets nothing, and a device's name is cut to what status can show."""
    house = House()
    other = Machine.create(BOT, "OTHER")
    house.server.upload(other)
    house.server.devices[ALEX]["PHONE"]["unsigned"] = {"device_display_name": "x" * 1000}
    assert decided(house) == (["PHONE"], set())
    assert house.bot.recipients(house.members).devices[0].name == "x" * 100


HOUSE = House()
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(thing: object, *before: str) -> list[tuple[str, ...]]:
    """Every place inside a JSON object."""
    found = [before] if before else []
    for name, inner in thing.items() if isinstance(thing, dict) else ():
        found += paths(inner, *before, name)
    return found


ANSWER = HOUSE.server.answer_query(HOUSE.bot.keys_query([ALEX]), BOT)


@settings(deadline=None)
@given(st.sampled_from(paths(ANSWER)), junk)
def test_any_change_to_an_answer_costs_trust_or_changes_nothing(path: tuple[str, ...], value: object) -> None:
    """Whatever a server puts anywhere into its answer: no error escapes, and nobody new is ever trusted."""
    answer = copy.deepcopy(ANSWER)
    place: Any = answer
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    identity = read_identity(ALEX, answer)
    pins = {ALEX: Pin(HOUSE.phone.master_key, "emoji")}
    found = decide(pins, {ALEX: identity}, [ALEX, BOT], BOT)
    honest = HOUSE.bot.recipients([ALEX]).devices
    assert [device._replace(name="") for device in found.devices] in ([], honest)
