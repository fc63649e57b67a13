"""Expressions for the brackets and commas of JSON, which may be invalid between them.

Repeated groups are greedy, and limited because a greedy group keeps in memory what it matched. Up to 3.11.4, Python's
possessive groups are wrong where they match in part (gh-106052).
"""

import re

#: A string. Only at the end of the data can its group match in part, where the string doesn't match anyway.
TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'[^"\[\]{}]*+(?:' + TEXT + rb'[^"\[\]{}]*+){0,64}'

#: Matches up to the next bracket, or to a string: one without an end, or after 64 of them.
WITHIN = re.compile(_FLAT, re.DOTALL)
#: The same up to the next comma, too.
TO_COMMA = re.compile(rb'[^"\[\]{},]*+(?:' + TEXT + rb'[^"\[\]{},]*+){0,64}', re.DOTALL)
#: Matches a whole object or list that contains no others, as most messages are; for speed.
LEAF = re.compile(rb"[\[{]" + _FLAT + rb"[\]}]", re.DOTALL)
