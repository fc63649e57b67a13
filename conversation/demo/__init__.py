"""A believable week of conversations, made up: for looking at the pages before there is anything of one's own.

The same seed and the same end make the same records, to the letter. All texts are in `talks/`.
"""
