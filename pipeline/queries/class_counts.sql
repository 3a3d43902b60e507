-- How many tracks and boxes of each class were labelled, by which model
SELECT
    class,
    source,
    source_version,
    count(*) AS tracks,
    sum(boxes)::BIGINT AS boxes,
    count(DISTINCT event_id) AS events,
    round(avg(end_ns - start_ns) / 1e9, 3) AS mean_seconds
FROM tracks
GROUP BY ALL
ORDER BY tracks DESC, class, source, source_version
