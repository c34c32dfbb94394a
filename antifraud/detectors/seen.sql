-- Every vote in the buckets of the detectors. Short names, for the queries that follow are long:
-- us = epoch microseconds, c = candidate, net and wide = pseudonyms of its networks (0 = not known),
-- cls = network class, u = user agent class, d = dwell bucket, a = lead bucket (buckets.py),
-- h = hour in which the token was issued, vh = hour of the vote.
CREATE OR REPLACE TEMP TABLE seen AS
SELECT
    vote::BIGINT AS vote,
    at_us AS us,
    candidate::INTEGER AS c,
    network AS net,
    network_wide AS wide,
    least(network_class, 5)::UTINYINT AS cls,
    user_agent_class::UTINYINT AS u,
    tls_hash::UINTEGER AS tls,
    CASE WHEN dwell_centiseconds > 0
         THEN least(51, 1 + floor(4 * log2(greatest(dwell_centiseconds, 10) / 10)))
         ELSE 0 END::UTINYINT AS d,
    greatest(0, least(47, 1 + floor(2 * log2(greatest(
        token_age_seconds::BIGINT - dwell_centiseconds // 100, -0.5) + 1))))::UTINYINT AS a,
    ((at_us // 1000000 - token_age_seconds) // 3600)::INTEGER AS h,
    (at_us // 3600000000)::INTEGER AS vh
FROM votes
