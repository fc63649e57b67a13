"""`turnlog doctor` and `turnlog repair`: what is wrong with a database or this machine, and how to fix it."""
