"""`flask doctor` and `flask repair`: whether a database and this machine are as the log needs them, and what to do."""
