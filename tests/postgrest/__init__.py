"""A stand-in for PostgREST 14 over a real Postgres, for tests and benchmarks of what talks to Supabase.

It answers `POST /rest/v1/rpc/<function>` with a JSON object body, and nothing else that PostgREST offers:
tables, GET, filters and `Prefer` get a 501 that says so. What it does answer, it answers in PostgREST's
words; `tests/postgrest/test_postgrest.py` holds it to exchanges recorded from the real one. On request it also fails
the way gateways and networks do: see `faults`.
"""

from tests.postgrest.answers import Answer
from tests.postgrest.faults import Action, Disconnect, Fault, Faults, Respond, Stall, Trickle, Truncate
from tests.postgrest.keys import sign
from tests.postgrest.standin import PostgrestStandIn

__all__ = [
    "Action",
    "Answer",
    "Disconnect",
    "Fault",
    "Faults",
    "PostgrestStandIn",
    "Respond",
    "Stall",
    "Trickle",
    "Truncate",
    "sign",
]
