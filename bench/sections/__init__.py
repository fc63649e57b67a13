"""The sections of the benchmark, by name. Each `run`s on a PostgreSQL server of its own."""

from collections.abc import Callable, Mapping

from bench.findings import Section, Setup
from bench.sections import batches, growth, histories, lists, memory, search, singles, supabase, tail

SECTIONS: Mapping[str, Callable[[Setup], Section]] = {
    "singles": singles.run,
    "batches": batches.run,
    "supabase": supabase.run,
    "tail": tail.run,
    "search": search.run,
    "lists": lists.run,
    "growth": growth.run,
    "histories": histories.run,
    "memory": memory.run,
}
