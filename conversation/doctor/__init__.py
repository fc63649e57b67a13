"""Examines the database and this machine, and names what is wrong, what it means, and how to fix it."""
