"""`python -m conversation.cli`, for environments without the installed command."""

from conversation.cli.main import main

main()
