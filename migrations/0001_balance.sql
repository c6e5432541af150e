-- The account: a balance that is never negative, and every change of it as a posting.

CREATE TABLE IF NOT EXISTS users (
    id bigint PRIMARY KEY,
    balance bigint NOT NULL CONSTRAINT balance_never_negative CHECK (balance >= 0)
) WITH (fillfactor = 50); -- room for HOT updates of a hot row

-- Append-only; the sum of a user's postings is always the balance.
CREATE TABLE IF NOT EXISTS ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    balance bigint NOT NULL,
    posted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS ledger_user ON ledger (user_id, id);

-- What was answered to a request that carried an Idempotency-Key, kept for a day.
CREATE TABLE IF NOT EXISTS idempotency (
    key text PRIMARY KEY,
    user_id bigint NOT NULL,
    amount bigint NOT NULL,
    verdict text,
    balance bigint,
    answered_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS idempotency_answered ON idempotency (answered_at);

INSERT INTO users (id, balance) VALUES (1, 10000) ON CONFLICT (id) DO NOTHING;
INSERT INTO ledger (user_id, amount, balance)
SELECT 1, 10000, 10000 WHERE NOT EXISTS (SELECT FROM ledger WHERE user_id = 1);

-- Changes a balance in one round trip. The change commits without waiting for the disk, so the
-- lock of a hot row is free at once; then the answer waits until the log is flushed that far.
-- verdict: 'changed', 'insufficient', 'unknown', 'key_reused'; balance as it is afterwards.
-- Dies before the first COMMIT: nothing happened. Dies after it: the change stands or falls
-- whole with the log, and nobody was told. Call it in autocommit mode only: it commits.
CREATE OR REPLACE PROCEDURE change_balance(
    by_user bigint, by_amount bigint, by_key text, INOUT verdict text, INOUT balance bigint
) LANGUAGE plpgsql AS $$
DECLARE
    known idempotency;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF by_key IS NOT NULL THEN
        -- A twin under way holds this key: the insert waits for its end, then finds its answer.
        INSERT INTO idempotency (key, user_id, amount) VALUES (by_key, by_user, by_amount)
        ON CONFLICT (key) DO NOTHING;
        IF NOT FOUND THEN
            SELECT * INTO STRICT known FROM idempotency i WHERE i.key = by_key;
            IF known.user_id = by_user AND known.amount = by_amount THEN
                verdict := known.verdict;
                balance := known.balance;
            ELSE
                verdict := 'key_reused';
            END IF;
        END IF;
    END IF;
    IF verdict IS NULL THEN
        LOOP
            WITH changed AS (
                UPDATE users u SET balance = u.balance + by_amount
                WHERE u.id = by_user AND u.balance + by_amount >= 0
                RETURNING u.id, u.balance
            )
            INSERT INTO ledger (user_id, amount, balance)
            SELECT changed.id, by_amount, changed.balance FROM changed
            RETURNING ledger.balance INTO balance;
            IF FOUND THEN
                verdict := 'changed';
            ELSE
                SELECT u.balance INTO balance FROM users u WHERE u.id = by_user;
                verdict := CASE WHEN NOT FOUND THEN 'unknown'
                    WHEN balance + by_amount < 0 THEN 'insufficient' END;
            END IF;
            -- Without one, somebody has paid in between the two: then there is enough by now.
            EXIT WHEN verdict IS NOT NULL;
        END LOOP;
        IF by_key IS NOT NULL THEN
            UPDATE idempotency i SET verdict = change_balance.verdict, balance = change_balance.balance
            WHERE i.key = by_key;
        END IF;
    END IF;
    IF verdict = 'changed' OR by_key IS NOT NULL THEN
        COMMIT;
        -- The flush: an empty message in the log, committed in the way the server is set to,
        -- which is at least to this server's own disk. It stands after the change in the log.
        IF current_setting('synchronous_commit') = 'off' THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
        PERFORM pg_logical_emit_message(true, 'flush', '');
    END IF;
END $$;
