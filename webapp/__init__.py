"""Ronin's HTTP face: reads what the engine wrote, and changes balances; it never runs a job."""
