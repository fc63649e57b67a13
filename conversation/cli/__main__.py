"""`python -m conversation.cli`, for where the command itself isn't installed."""

from conversation.cli.main import main

main()
