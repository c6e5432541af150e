DROP PROCEDURE IF EXISTS change_balances;
