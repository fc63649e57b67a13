"""One module for each way to say what a span is. Each has two functions.

`kind_of(span)` returns what the span is, None if it isn't said in this dialect. `read(span)` returns what a call of a
model says of itself.
"""
