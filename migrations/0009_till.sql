-- Many changes of one balance in one call: one lock, one flush, a verdict for each.

-- The changes apply in their order, each on its own: one that would lead below zero is refused,
-- and those after it still get their chance with what is there.
-- verdicts: 'changed', 'insufficient', 'overflow', 'unknown'; balances as they are after each.
-- Commits as change_balance does (see 0001): the row is free before the log is flushed, and the
-- answer comes after. Where nothing was changed, nothing is flushed. Call it in autocommit mode.
-- Dies before the first COMMIT: nothing happened. Dies after it: the changes stand or fall
-- together with the log, and nobody was told.
CREATE OR REPLACE PROCEDURE change_balances(
    by_user bigint, by_amounts bigint[], INOUT verdicts text[], INOUT balances bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    largest bigint := -9223372036854775808;
    held bigint;
    amount bigint;
    taken bigint[];
    steps bigint[];
BEGIN
    FOREACH amount IN ARRAY by_amounts LOOP
        largest := greatest(largest, amount);
    END LOOP;
    PERFORM set_config('synchronous_commit', 'off', true);
    LOOP
        -- Locks the row, and sees it as the group before left it, if one change at least can be
        -- made. Refusals alone lock nothing.
        SELECT u.balance INTO held FROM users u WHERE u.id = by_user AND -u.balance <= largest
        FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        SELECT u.balance INTO held FROM users u WHERE u.id = by_user;
        IF NOT FOUND THEN
            verdicts := array_fill('unknown'::text, ARRAY[cardinality(by_amounts)]);
            balances := array_fill(NULL::bigint, ARRAY[cardinality(by_amounts)]);
            RETURN;
        END IF;
        -- Else somebody has paid in between the two: then there is enough by now.
        EXIT WHEN -held > largest;
    END LOOP;
    FOREACH amount IN ARRAY by_amounts LOOP
        IF amount < -held THEN
            verdicts := verdicts || 'insufficient'::text;
        ELSIF amount > 9223372036854775807 - held THEN
            verdicts := verdicts || 'overflow'::text;
        ELSE
            held := held + amount;
            taken := taken || amount;
            steps := steps || held;
            verdicts := verdicts || 'changed'::text;
        END IF;
        balances := balances || held;
    END LOOP;
    IF taken IS NOT NULL THEN
        WITH changed AS (UPDATE users u SET balance = held WHERE u.id = by_user)
        INSERT INTO ledger (user_id, amount, balance)
        SELECT by_user, step.amount, step.balance FROM unnest(taken, steps) step (amount, balance);
        COMMIT;
        -- The flush, as in change_balance.
        IF current_setting('synchronous_commit') = 'off' THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
        PERFORM pg_logical_emit_message(true, 'flush', '');
    END IF;
END $$;
