-- How many inputs each stage could not use, why, and one of them
SELECT stage, reason, count(*) AS rejects, min(uri) AS example_uri, arg_min(detail, uri) AS example
FROM rejects
GROUP BY ALL
ORDER BY rejects DESC, stage, reason
