-- How many hours were driven at which speed, in steps of 5 m/s
SELECT
    floor(speed_mps / 5)::BIGINT * 5 AS from_mps,
    count(*) * 0.02 / 3600 AS hours,
    count(DISTINCT log_id) AS logs
FROM signals
WHERE speed_mps IS NOT NULL
GROUP BY from_mps
ORDER BY from_mps
