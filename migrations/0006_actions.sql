-- Actions: what people have changed, who, and when; each written in the transaction of its change.
CREATE TABLE IF NOT EXISTS action (
    id uuid PRIMARY KEY DEFAULT uuid7(), -- which tells when
    who text NOT NULL,
    what text NOT NULL,
    target text NOT NULL, -- job:…, kind:… or run:…
    detail jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS action_target ON action (target, id DESC);

-- Failed tasks of a kind, as `retry_all` walks them.
CREATE INDEX IF NOT EXISTS history_failed ON history (job, finished_at, run_id)
    WHERE closing AND outcome <> 'completed';
