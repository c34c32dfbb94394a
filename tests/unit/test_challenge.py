"""Challenges: made, solved, and handed in by whom they were not made for."""

import copy
import json
import time

import altcha
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antifraud import challenge
from antifraud.challenge import (
    BASE_BITS,
    HASHES_PER_SECOND_MAX,
    MOST_BITS,
    SLOW_BITS_LESS,
    TICKET_VALID_SECONDS,
    VALID_SECONDS,
    Challenges,
    Finding,
    difficulty,
    slow_wait_seconds,
    solved_too_fast,
)
from antifraud.user_agents import FIRST_MODEL
from tests.challenges import packed, solve

DEVICE, OTHER_DEVICE = b"d" * 12, b"e" * 12
HOME, OTHER_HOME, IPV6 = b"\4\1\2\3\4", b"\4\1\2\3\5", b"\6" + bytes(8)
KEYS = {1: b"a" * 32, 2: b"b" * 32}
SMALL = 8
"""Bits of a challenge that is solved at once: below what is ever given out."""
LATER = 1.0
"""Seconds between a challenge and its solution."""


def made(now, *, bits=SMALL, slow=False, key_id=1, keys=KEYS):
    return Challenges(keys).make(key_id, DEVICE, HOME, now, bits=bits, slow=slow)


def found(solution, now, *, device=DEVICE, prefix=HOME, keys=KEYS, **facts):
    return Challenges(keys).check(solution, device, prefix, now, **facts)


@pytest.fixture
def now():
    # The library has a look at the clock too, so that no other time than ours will do.
    return time.time()


@pytest.fixture
def payload(now):
    return solve(made(now))


@pytest.mark.parametrize("form", [lambda payload: payload, packed], ids=["object", "base64"])
@pytest.mark.parametrize("key_id", [1, 2])
def test_solution_is_taken_as_an_object_and_as_the_librarys_text(now, form, key_id):
    solution = solve(made(now, key_id=key_id))
    checked = found(form(solution), now + LATER)
    assert checked.finding is Finding.SOLVED
    assert checked.nonce == solution["challenge"]["parameters"]["nonce"]
    assert checked.seconds_since == pytest.approx(LATER, abs=0.01)
    assert not checked.slow


def test_library_itself_solves_ours_and_its_payload_is_taken(now):
    ours = altcha.Challenge.from_dict(made(now))
    solution = altcha.solve_challenge(ours)
    text = altcha.Payload(ours, solution).to_base64()
    assert found(text, now + LATER).finding is Finding.SOLVED


@pytest.mark.parametrize(
    "other",
    [{"device": OTHER_DEVICE}, {"prefix": OTHER_HOME}, {"prefix": IPV6}, {"keys": {2: b"b" * 32}}],
    ids=["device", "network", "family", "key"],
)
def test_solution_for_another_device_network_or_key_is_refused(now, payload, other):
    assert found(payload, now + LATER, **other).finding is Finding.REFUSED


def test_other_installations_challenge_is_refused(now):
    stranger = solve(made(now, keys={1: b"x" * 32}))
    assert found(stranger, now + LATER).finding is Finding.REFUSED


def test_solution_is_good_for_two_minutes(now):
    for age, finding in (
        (VALID_SECONDS - 2, Finding.SOLVED),
        (VALID_SECONDS + 2, Finding.EXPIRED),
        (86_400, Finding.EXPIRED),
    ):
        solution = solve(made(now - age))
        assert found(solution, now).finding is finding, age


def test_challenge_from_the_future_is_refused_but_one_of_a_clock_ahead_is_of_just_now(now):
    assert found(solve(made(now + 60)), now).finding is Finding.REFUSED
    checked = found(solve(made(now + 4)), now, user_agent_class=FIRST_MODEL)
    assert (checked.finding, checked.seconds_since) == (Finding.SOLVED, 0.0)
    waits = found(solve(made(now + 4, bits=BASE_BITS, slow=True)), now)
    assert waits.finding is Finding.EARLY
    assert waits.wait_seconds == slow_wait_seconds(BASE_BITS), "and not four seconds more"


def test_nobody_asks_leave_to_verify_before_all_that_is_cheap_was_looked_at(now, payload):
    asked = []

    def may_not():
        asked.append(1)
        return False

    wrong = copy.deepcopy(payload)
    wrong["solution"]["derivedKey"] = "0" * 64
    for solution, other, finding in (
        ({}, {}, Finding.MALFORMED),
        (payload, {"device": OTHER_DEVICE}, Finding.REFUSED),
        (payload, {"keys": {1: b"x" * 32}}, Finding.REFUSED),
        (solve(made(now - 200)), {}, Finding.EXPIRED),
        (wrong, {}, Finding.REFUSED),
    ):
        assert found(solution, now, may_verify=may_not, **other).finding is finding
    assert asked == []
    assert found(payload, now, may_verify=may_not).finding is Finding.UNCHECKED
    assert asked == [1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cost", 2),
        ("keyPrefix", "00"),
        ("salt", "0" * 32),
        ("nonce", "0" * 32),
        ("keySignature", "0" * 64),
        ("keySignature", None),
        ("expiresAt", 9_999_999_999),
        ("algorithm", "PBKDF2/SHA-256"),
    ],
)
def test_challenge_with_anything_changed_is_refused(now, payload, name, value):
    payload["challenge"]["parameters"][name] = value
    assert found(payload, now + LATER).finding is Finding.REFUSED


@pytest.mark.parametrize("name", ["key", "at", "bits", "wait"])
def test_challenge_with_other_data_is_refused(now, payload, name):
    payload["challenge"]["parameters"]["data"][name] += 1
    assert found(payload, now + LATER).finding is Finding.REFUSED


def test_challenge_with_data_of_the_clients_own_is_refused(now, payload):
    payload["challenge"]["parameters"]["data"]["more"] = "x"
    assert found(payload, now + LATER).finding is Finding.REFUSED


def test_wrong_key_or_a_counter_that_does_not_give_it_is_refused(now, payload):
    wrong_key, wrong_counter = copy.deepcopy(payload), copy.deepcopy(payload)
    wrong_key["solution"]["derivedKey"] = "0" * 64
    wrong_counter["solution"]["counter"] += 1
    prefix = payload["challenge"]["parameters"]["keyPrefix"]
    guessed = copy.deepcopy(payload)
    guessed["solution"]["derivedKey"] = prefix + "0" * 32
    for solution in (wrong_key, wrong_counter, guessed):
        assert found(solution, now + LATER).finding is Finding.REFUSED


ODD = [
    None,
    1,
    1.5,
    True,
    [],
    {},
    "",
    "x",
    "{}",
    packed(None),
    packed([]),
    packed({}),
    packed("x" * 4_000),
    "A" * 4_000,
    "[" * 2_999,
    {"challenge": None, "solution": None},
    {"challenge": [], "solution": {}},
    {"challenge": {"parameters": []}, "solution": {"counter": 1, "derivedKey": "0" * 64}},
]


@pytest.mark.parametrize("solution", ODD, ids=range(len(ODD)))
def test_what_is_no_solution_is_malformed(now, solution):
    assert found(solution, now).finding is Finding.MALFORMED


@pytest.mark.parametrize("odd", [None, "", "x", -1, 2**32, 1.5, True, [], {}, "0" * 10_000])
@pytest.mark.parametrize(
    "path",
    [
        ("solution", "counter"),
        ("solution", "derivedKey"),
        ("solution",),
        ("challenge",),
        ("challenge", "signature"),
        ("challenge", "parameters"),
        ("challenge", "parameters", "nonce"),
        ("challenge", "parameters", "salt"),
        ("challenge", "parameters", "data"),
        ("challenge", "parameters", "data", "key"),
        ("challenge", "parameters", "data", "at"),
        ("challenge", "parameters", "data", "for"),
    ],
    ids=".".join,
)
def test_odd_member_makes_no_error_and_no_solution(now, payload, path, odd):
    *way, last = path
    held = payload
    for name in way:
        held = held[name]
    held[last] = odd
    assert found(payload, now + LATER).finding in (Finding.MALFORMED, Finding.REFUSED)
    del held[last]
    assert found(payload, now + LATER).finding is Finding.MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_no_json_is_a_solution_by_chance_or_raises(value):
    assert found(value, time.time()).finding is Finding.MALFORMED


@given(st.data())
def test_json_in_any_place_of_a_solution_raises_nothing(data):
    now = time.time()
    payload = solve(made(now))
    held = data.draw(
        st.sampled_from(
            [
                payload["solution"],
                payload["challenge"],
                payload["challenge"]["parameters"],
                payload["challenge"]["parameters"]["data"],
            ]
        )
    )
    name = data.draw(st.sampled_from(sorted(held)))
    held[name] = data.draw(JSON)
    assert found(payload, now + LATER).finding in set(Finding) - {Finding.EARLY}


def test_challenge_tells_nothing_of_the_device_or_the_network():
    text = json.dumps(made(time.time(), bits=BASE_BITS))
    assert DEVICE.hex() not in text
    assert HOME.hex() not in text
    assert (
        made(time.time())["parameters"]["data"]["for"]
        != (Challenges(KEYS).make(1, DEVICE, OTHER_HOME, time.time())["parameters"]["data"]["for"])
    )


def test_slow_way_has_less_work_and_waits(now):
    usual, slow = made(now, bits=BASE_BITS), made(now, bits=BASE_BITS, slow=True)
    data = slow["parameters"]["data"]
    assert usual["parameters"]["data"]["bits"] - data["bits"] == SLOW_BITS_LESS
    assert usual["parameters"]["data"]["wait"] == 0
    assert data["wait"] == slow_wait_seconds(BASE_BITS) >= 10
    solution = solve(slow)
    early = found(solution, now + 3)
    assert early.finding is Finding.EARLY
    assert early.wait_seconds == pytest.approx(data["wait"] - 3, abs=0.01)
    done = found(solution, now + data["wait"] + 0.01)
    assert done.finding is Finding.SOLVED
    assert done.slow


def test_counter_is_never_trivial_and_never_above_what_the_bits_say(now):
    for _ in range(20):
        counter = solve(made(now))["solution"]["counter"]
        assert (1 << SMALL) // 4 <= counter < 1 << SMALL


def test_difficulty_grows_with_the_load_within_bounds():
    assert difficulty(0) == difficulty(1) == BASE_BITS
    assert difficulty(1.9) == BASE_BITS
    assert [difficulty(2**n) for n in range(6)] == [16, 17, 18, 19, 20, 20]
    assert difficulty(1e300) == difficulty(float("inf")) == MOST_BITS
    assert [difficulty(2**n, BASE_BITS + 2) for n in range(6)] == [16, 17, 18, 18, 18, 18]


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_more_load_is_never_easier(one, other):
    low, high = sorted((one, other))
    assert BASE_BITS <= difficulty(low) <= difficulty(high) <= MOST_BITS
    assert slow_wait_seconds(difficulty(low)) <= slow_wait_seconds(difficulty(high))


def test_slowest_phone_is_done_in_time_at_the_hardest():
    slowest_hashes_per_second = 40_000
    assert (1 << MOST_BITS) / slowest_hashes_per_second < 30
    assert slow_wait_seconds(MOST_BITS) < VALID_SECONDS / 2


def test_solving_faster_than_any_browser_is_seen(now):
    phone, desktop = FIRST_MODEL, 2
    most = 1 << MOST_BITS
    assert solved_too_fast(most, 0.0, phone)
    assert not solved_too_fast(most, 0.1, phone), "clocks may differ by 0.2 s"
    assert not solved_too_fast(most, 0.0, desktop)
    assert solved_too_fast(HASHES_PER_SECOND_MAX, 0.7, desktop)
    assert not solved_too_fast(0, 0.0, phone)


def test_right_solution_that_came_too_fast_serves_once_a_browser_could_have_found_it(
    now, monkeypatch
):
    monkeypatch.setattr(challenge, "PHONE_HASHES_PER_SECOND_MAX", 100)
    solution, phone = solve(made(now)), FIRST_MODEL
    assert found(solution, now, user_agent_class=phone).finding is Finding.TOO_FAST
    assert found(solution, now + 60, user_agent_class=phone).finding is Finding.SOLVED
    ahead = solve(made(now + 1))
    assert found(ahead, now, user_agent_class=phone).finding is Finding.SOLVED, "who can tell?"


# Tickets.


def ticket(now, *, keys=KEYS):
    return Challenges(keys).ticket(1, DEVICE, HOME, now, BASE_BITS)


def worth(ticket, now, *, device=DEVICE, prefix=HOME, keys=KEYS):
    return Challenges(keys).check_ticket(ticket, device, prefix, now)


def test_ticket_is_worth_a_slow_solution_after_its_wait(now):
    wait = slow_wait_seconds(BASE_BITS)
    for age, finding in (
        (-60, Finding.EARLY),
        (0, Finding.EARLY),
        (wait - 1, Finding.EARLY),
        (wait + 1, Finding.SOLVED),
        (TICKET_VALID_SECONDS - 1, Finding.SOLVED),
        (TICKET_VALID_SECONDS + 1, Finding.EXPIRED),
    ):
        checked = worth(ticket(now), now + age)
        assert checked.finding is finding, age
        assert checked.wait_seconds <= wait
        assert checked.slow is (finding is not Finding.EXPIRED)


@pytest.mark.parametrize(
    "other", [{"device": OTHER_DEVICE}, {"prefix": OTHER_HOME}, {"keys": {1: b"x" * 32}}]
)
def test_ticket_of_another_device_network_or_key_is_refused(now, other):
    assert worth(ticket(now), now + 60, **other).finding is Finding.REFUSED


@given(st.text(max_size=40))
def test_no_text_is_a_ticket_by_chance_or_raises(text):
    assert worth(text, time.time()).finding in (Finding.MALFORMED, Finding.REFUSED)


@given(st.integers(0, 27), st.sampled_from("ABCxyz019-_+/="))
def test_ticket_with_another_character_is_none(at, character):
    now = time.time()
    good = ticket(now)
    changed = good[:at] + character + good[at + 1 :]
    expected = Finding.SOLVED if changed == good else worth(changed, now + 60).finding
    assert worth(good, now + 60).finding is Finding.SOLVED
    if changed != good:
        assert expected in (Finding.MALFORMED, Finding.REFUSED)
