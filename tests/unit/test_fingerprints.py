"""What is known of agents' TLS fingerprints."""

from tally.fingerprints import AGENT_VOTES_LEAST, Sighting, known_fingerprints


def test_a_fingerprint_is_known_by_its_share_of_an_agents_votes():
    seen = [
        Sighting(40, 1, 9_000, 100),
        Sighting(40, 2, 1_000, 10),
        Sighting(40, 3, 10, 0),  # a script that few use
        Sighting(41, 3, 9_000, 90),
    ]
    assert known_fingerprints(seen) == {40: [1, 2], 41: [3]}


def test_a_new_version_is_known_as_soon_as_it_is_common():
    old = Sighting(40, 1, 1_000_000, 9_000)
    assert known_fingerprints([old, Sighting(40, 2, 150, 150)]) == {40: [1]}
    assert known_fingerprints([old, Sighting(40, 2, 300, 300)]) == {40: [1, 2]}


def test_of_an_agent_that_is_rare_nothing_is_said():
    assert known_fingerprints([Sighting(40, 1, AGENT_VOTES_LEAST - 1, 0)]) == {}
    assert known_fingerprints([]) == {}
