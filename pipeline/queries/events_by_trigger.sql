-- How many events each trigger mined, from how many drives, and how long they are
SELECT
    trigger,
    trigger_version,
    count(*) AS events,
    count(DISTINCT drive_id) AS drives,
    round(sum(end_ns - start_ns) / 1e9, 3) AS seconds,
    round(avg(score), 4) AS mean_score
FROM events
GROUP BY ALL
ORDER BY events DESC, trigger, trigger_version
