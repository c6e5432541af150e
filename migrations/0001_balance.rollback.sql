DROP PROCEDURE IF EXISTS change_balance;
DROP TABLE IF EXISTS idempotency, ledger, users;
