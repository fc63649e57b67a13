"""Turns messages into interactions and back, for every door: HTTP routes, imports and exports.

`shapes` reads messages as the SDKs have them, `planning` finds what answers what and what is stored already, `reading`
makes messages of interactions again. Nothing here knows a database or a request.
"""
