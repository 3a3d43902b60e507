-- How many hours each vehicle or robot recorded
SELECT
    vehicle_id,
    platform,
    count(DISTINCT drive_id) AS drives,
    count(*) AS logs,
    round(sum(duration_ns) / 3.6e12, 6) AS hours
FROM logs
GROUP BY ALL
ORDER BY hours DESC, vehicle_id, platform
