-- What went into each stage of each run, and how it ended
SELECT
    run_id,
    job,
    make_timestamp_ns(started_ns) AS started,
    round((finished_ns - started_ns) / 1e9, 3) AS seconds,
    c.stage,
    c."of",
    c.kept,
    c.filtered,
    c.rejected,
    c.kept + c.filtered + c.rejected AS total
FROM (SELECT *, unnest(counts) AS c FROM runs)
ORDER BY started_ns, run_id, c.stage, c."of"
