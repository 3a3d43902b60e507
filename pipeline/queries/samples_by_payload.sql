-- How many samples are encoded, and how large they are
SELECT
    payload,
    privacy,
    spec_digest,
    count(*) AS samples,
    sum(length)::BIGINT AS bytes,
    round(quantile_cont(length, 0.5)) AS median_bytes,
    max(length) AS largest_bytes,
    round(sum(duration_ns) / 3.6e12, 6) AS hours
FROM samples
GROUP BY ALL
ORDER BY samples DESC, payload, privacy, spec_digest
