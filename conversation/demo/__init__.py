"""A recorded week of conversations, to see the pages with before there are any of one's own.

All of it is made up: a generator filled a project with people, texts and times, and `export` wrote this file.
"""

from pathlib import Path

#: In Turnlog's own format.
RECORDING = Path(__file__).parent / "demo.jsonl.gz"
