-- The trace that a run was asked for in: `traceparent` as the W3C writes it. Nobody has to hand it
-- through, for whoever enqueues with the setting ronin.trace in the transaction has given it.
ALTER TABLE run ADD COLUMN IF NOT EXISTS trace text DEFAULT nullif(current_setting('ronin.trace', true), '');
