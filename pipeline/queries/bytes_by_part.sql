-- How many parts of samples are encoded, and how large they are
SELECT
    part,
    privacy,
    spec_digest,
    count(*) AS parts,
    sum(length)::BIGINT AS bytes,
    round(quantile_cont(length, 0.5)) AS median_bytes,
    max(length) AS largest_bytes,
    round(sum(duration_ns) / 3.6e12, 6) AS hours
FROM parts
GROUP BY ALL
ORDER BY parts DESC, part, privacy, spec_digest
