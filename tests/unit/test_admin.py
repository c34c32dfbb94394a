"""Metrics of several processes as one page."""

from prometheus_client.parser import text_string_to_metric_families

from deploy.local.admin import _exposition, merged

EDGE = """\
# HELP likes_total Likes.
# TYPE likes_total counter
likes_total{outcome="counted"} 3.0
# HELP wait_seconds Wait.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="1.0"} 1.0
wait_seconds_bucket{le="+Inf"} 2.0
wait_seconds_count 2.0
wait_seconds_sum 4.5
"""


def samples(families):
    text = _exposition(families).decode()
    assert text.count("# TYPE likes_total counter") == 1, "one family, however many processes"
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_sample_is_kept_and_labelled_with_its_process():
    found = samples(merged({"edge-0": EDGE, "edge-1": EDGE.replace("3.0", "5.0")}))
    for process, likes in (("edge-0", 3), ("edge-1", 5)):
        who = ("process", process)
        assert found["likes_total", ("outcome", "counted"), who] == likes
        assert found["wait_seconds_bucket", ("le", "+Inf"), who] == 2
        assert found["wait_seconds_sum", who] == 4.5
    assert len(found) == 2 * 5


def test_a_process_that_talks_nonsense_is_left_out():
    found = samples(merged({"edge-0": EDGE, "edge-1": "likes_total{ oh"}))
    assert {dict(key[1:])["process"] for key in found} == {"edge-0"}
