"""Bugs that would break a promise, and the test that must notice each."""

from dataclasses import dataclass

SPOOL = "tests/spool/test_spool.py"
FSYNC = "tests/spool/test_fsync.py"
GROUP = "tests/store/test_group_commit.py"
CONFORMANCE = "tests/store/test_store_conformance.py"
CELLS = "tests/faults/test_postgrest_cells.py"
RACES = "tests/races/test_shared_sessions.py"
ENSURE_SESSIONS = "supabase/schemas/write/ensure_sessions.sql"
FILL_RULE = "supabase/schemas/rules/fill_rule.sql"


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """`right` stands once in `file`; `wrong` takes its place."""

    name: str
    file: str
    right: str
    wrong: str
    test: str


PLANTED = [
    PlantedBug(
        "a write is acknowledged before it is in the spool",
        "logging_store/spool/__init__.py",
        "        self.directory.append(batch)\n",
        "        threading.Timer(0.5, self.directory.append, [batch]).start()\n",
        f"{SPOOL}::test_a_spooled_batch_is_on_the_disk_when_its_receipts_are_returned",
    ),
    PlantedBug(
        "a write is acknowledged before it is synced",
        "logging_store/spool/files.py",
        "pragma synchronous = full",
        "pragma synchronous = off",
        f"{FSYNC}::test_a_batch_is_synced_when_append_returns",
    ),
    PlantedBug(
        "a dead letter isn't synced",
        "logging_store/spool/dead_letters.py",
        "pragma synchronous = full",
        "pragma synchronous = off",
        f"{FSYNC}::test_a_dead_letter_is_synced_when_add_returns",
    ),
    PlantedBug(
        "a batch locks its sessions in any order",
        ENSURE_SESSIONS,
        "                 order by s.id\n                   for no key update) as s;",
        "                 order by random()\n                   for no key update) as s;",
        f"{RACES}::test_8_processes_write_60_batches_of_12_over_40_sessions_in_shuffled_order[postgres]",
    ),
    PlantedBug(
        "a write overwrites what is filled",
        FILL_RULE,
        "            merged := stored_value;\n            conflicts := conflicts || field;",
        "            merged := value;",
        f"{CONFORMANCE}::test_a_contradiction_names_its_fields_and_changes_nothing[postgres]",
    ),
    PlantedBug(
        "a full spool drops what comes",
        "logging_store/spool/directory.py",
        "            self.require_room(claimed=batch.is_claimed)\n            for last",
        "            with suppress(SpoolFull):\n                self.require_room()\n"
        "            if self.used_bytes() >= self.limits.max_bytes:\n                return\n            for last",
        f"{SPOOL}::test_past_its_limits_the_spool_refuses_and_drops_nothing",
    ),
    PlantedBug(
        "a full spool drops its oldest",
        "logging_store/spool/directory.py",
        "            self.require_room(claimed=batch.is_claimed)\n            for last",
        "            if self.used_bytes() >= self.limits.max_bytes - 50_000 and self._own:\n"
        "                self._own[1].remove(self._own[1].oldest(1, 1))\n"
        "            self.require_room()\n            for last",
        f"{SPOOL}::test_past_its_limits_the_spool_refuses_and_drops_nothing",
    ),
    PlantedBug(
        "a bad record takes the others of its batch along",
        "logging_store/spool/drain.py",
        "            halves = batch.halves()\n",
        "            halves: tuple[Batch, ...] = ()\n",
        f"{SPOOL}::test_a_rejected_record_becomes_a_dead_letter_and_fails_no_other",
    ),
    PlantedBug(
        "a bad record takes the others of its group along",
        "logging_store/group_commit.py",
        "            if len(parts) == 1:\n",
        "            if parts:\n",
        f"{GROUP}::test_invalid_data_only_fails_its_own_call",
    ),
    PlantedBug(
        "what is delivered is noted before it is",
        "logging_store/spool/drain.py",
        "        mergeable = _mergeable(entries)\n",
        "        mergeable = _mergeable(entries)\n        file.remove(mergeable)\n",
        f"{SPOOL}::test_an_undelivered_entry_stays_in_the_file",
    ),
    PlantedBug(
        "the file of a living worker is adopted",
        "logging_store/spool/locks.py",
        "    except (BlockingIOError, FileNotFoundError):\n        pass\n",
        "    except (BlockingIOError, FileNotFoundError):\n        return descriptor\n",
        f"{SPOOL}::test_the_file_of_a_living_process_is_not_adopted",
    ),
    PlantedBug(
        "the breaker never closes",
        "logging_store/spool/breaker.py",
        "                self._on_change(-1)\n            self._failures = 0\n",
        "                self._on_change(-1)\n",
        f"{SPOOL}::test_while_the_store_is_away_writes_are_spooled_and_later_delivered",
    ),
    PlantedBug(
        "what is refused for good is forgotten",
        "logging_store/spool/drain.py",
        "        self._dead_letters.add("
        "batch, receipt, spooled_at, lambda: any(file.contains(entry) for entry in sources))\n",
        "",
        f"{SPOOL}::test_a_rejected_record_becomes_a_dead_letter_and_fails_no_other",
    ),
    PlantedBug(
        "receipts are given to the wrong callers",
        "logging_store/group_commit.py",
        "            for call, own in zip(group, receipts",
        "            for call, own in zip(reversed(group), receipts",
        f"{GROUP}::test_queued_writes_become_one_group",
    ),
    PlantedBug(
        "who waits behind a hanging write is refused",
        "conversation/stack.py",
        ", overflow=spool.enqueue, ",
        ", ",
        f"{CELLS}::test_each_write_is_answered_in_time_and_kept_once[a stall-before-passing]",
    ),
    PlantedBug(
        "the deadline begins anew with each byte",
        "logging_store/postgres/supabase_store.py",
        "        http_deadline.install(http)\n",
        "",
        f"{CELLS}::test_an_answer_that_trickles_in_ends_at_the_deadline[before]",
    ),
]
