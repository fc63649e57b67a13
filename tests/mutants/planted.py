"""Bugs that would break a promise, and the test that must notice each."""

from dataclasses import dataclass

SPOOL = "tests/spool/test_spool.py"
DATABASES = "tests/spool/test_databases.py"
FSYNC = "tests/spool/test_fsync.py"
GROUP = "tests/store/test_group_commit.py"
GROUP_BOUNDS = "tests/store/test_group_bounds.py"
BOUNDS = "tests/spool/test_bounds.py"
READER = "tests/access/test_reader_limits.py"
SLOW = "tests/store/test_slow_calls.py"
TURNS = "tests/spool/test_turns.py"
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
        "a delivery doesn't say which database it is for",
        "logging_store/spool/drain.py",
        "replace(batch, late=True, database=file.database)",
        "replace(batch, late=True)",
        f"{DATABASES}::test_a_database_replaced_without_an_outage_gets_nothing_that_waits",
    ),
    PlantedBug(
        "a database takes what was acknowledged for another one",
        "supabase/schemas/write/write.sql",
        "request ->> 'database' is distinct from turnlog.database_id()",
        "request ->> 'database' is null",
        f"{DATABASES}::test_a_batch_for_another_database_is_not_written[postgres]",
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
        "        batch = Batch.merge([entry.batch for entry in mergeable])\n",
        "        batch = Batch.merge([entry.batch for entry in mergeable])\n        file.remove(mergeable)\n",
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
        "a slow call opens the breaker",
        "logging_store/spool/__init__.py",
        "        try:\n            self.inner.ping()\n        except Exception as found:  # noqa",
        "        try:\n            raise error\n        except Exception as found:  # noqa",
        f"{SLOW}::test_slow_reads_are_their_callers_alone[postgres]",
    ),
    PlantedBug(
        "a page's slow write holds up backends",
        "logging_store/group_commit.py",
        "        lane = self._lanes[batch.is_claimed]\n",
        "        lane = self._lanes[False]\n",
        f"{GROUP}::test_a_page_holds_up_no_backend",
    ),
    PlantedBug(
        "what failed is tried first again",
        "logging_store/spool/drain.py",
        "            file.count_failure(entries)\n            for entry in entries:\n",
        "            for entry in entries:\n",
        f"{TURNS}::test_a_backlog_of_pages_holds_up_no_backend",
    ),
    PlantedBug(
        "a record that no time is enough for is tried for ever",
        "logging_store/spool/drain.py",
        "        elif entry.failures < MAX_FAILURES:\n",
        "        elif True:\n",
        f"{TURNS}::test_what_no_time_is_enough_for_becomes_a_dead_letter_with_its_reason",
    ),
    PlantedBug(
        "each message of a history reads all of it again",
        "supabase/schemas/read/messages.sql",
        "         where s.start + e.n > left_out and s.start + e.n <= finish);",
        "         where s.count - jsonb_array_length(s.messages) + e.n > left_out\n"
        "           and s.count - jsonb_array_length(s.messages) + e.n <= finish);",
        "tests/api/test_messages_by_content.py::test_a_long_history_is_read_once_for_all_its_messages[500]",
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
    PlantedBug(
        "a call to Supabase's API that begins after its deadline is an unexpected error",
        "logging_store/postgres/http_deadline.py",
        "        raise httpx.PoolTimeout(str(error), request=request) from error\n",
        "        raise\n",
        "tests/store/test_deadline.py::test_a_call_whose_deadline_is_over_before_it_begins[supabase]",
    ),
    PlantedBug(
        "no read waits for Supabase's API to reconnect",
        "logging_store/postgres/function_store.py",
        "        return restore_numbers(until_reconnected(call, give_up))\n",
        "        return restore_numbers(call())\n",
        "tests/store/test_reconnection.py::test_a_read_waits_and_a_write_leaves_it_to_the_spool",
    ),
    PlantedBug(
        "the doctor asks once",
        "conversation/doctor/examination.py",
        "            self.on_wait(error)\n",
        "            raise\n",
        "tests/store/test_reconnection.py::test_the_doctor_asks_twice_before_it_says_that_the_database_is_away",
    ),
    PlantedBug(
        "a merge doesn't wait for writes that haven't seen it",
        "supabase/schemas/rules/lock_merges.sql",
        "        perform pg_advisory_xact_lock(place);\n",
        "        null;\n",
        "tests/races/test_merge.py::test_what_a_guest_writes_while_being_merged_becomes_the_users[postgres]",
    ),
    PlantedBug(
        "what arrives late for a guest stays the guest's",
        "supabase/schemas/write/write.sql",
        "    rows := turnlog.follow_merges(in_project, rows);\n",
        "",
        "tests/spool/test_words_back.py::test_any_order_of_all_that_can_happen_to_a_chat_gives_the_same_rows",
    ),
    PlantedBug(
        "at one time a thumb counts more than taking it back",
        "supabase/schemas/write/write_feedback.sql",
        "        is_newer := (incoming.given_at, incoming.value is null, ",
        "        is_newer := (incoming.given_at, incoming.value is not null, ",
        "tests/api/test_feedback.py::test_any_order_and_any_doubling_leave_the_same[postgres]",
    ),
    PlantedBug(
        "a text comes back after it expired",
        "supabase/schemas/rules/is_expired.sql",
        "stored ->> 'text_expired_at' is not null and exists (",
        "stored ->> 'text_expired_at' = '' and exists (",
        "tests/store/test_text_retention.py::test_a_late_text_is_refused_and_numbers_still_fill[postgres]",
    ),
    PlantedBug(
        "revisions keep the texts that expired",
        "supabase/schemas/erase/expire_texts.sql",
        "where r.project = in_project and r.session_id = any (done);",
        "where r.project = in_project and r.session_id = any (done) and r.facts = '{}';",
        "tests/store/test_text_retention.py::test_texts_go_and_numbers_stay[postgres]",
    ),
    PlantedBug(
        "feedback on an erased turn is stored",
        "supabase/schemas/write/write_feedback.sql",
        "i.id = incoming.interaction_id and i.erased_at is not null)",
        "i.id = incoming.interaction_id and i.erased_at is null and i.turn < 0)",
        "tests/spool/test_words_back.py::test_any_order_of_all_that_can_happen_to_a_chat_gives_the_same_rows",
    ),
    PlantedBug(
        "of two texts to be revised the one that arrived first stays",
        "supabase/schemas/rules/revision_rule.sql",
        "else (s.own_status, r.own_said_at, coalesce",
        "else (s.own_status, r.was_said_at, coalesce",
        "tests/api/test_revisions.py::test_what_was_said_last_is_shown[postgres]",
    ),
    PlantedBug(
        "what is revised isn't kept",
        "supabase/schemas/rules/revision_rule.sql",
        "    if displaced <> '{}' and",
        "    if outranked <> '{}' and",
        "tests/api/test_revisions.py::test_revisions_are_read_newest_first_with_what_differs[postgres]",
    ),
    PlantedBug(
        "an outage of hours is one too long for the breaker",
        "logging_store/spool/breaker.py",
        "2.0 ** min(self._failures, 30))",
        "2.0**self._failures)",
        f"{BOUNDS}::test_pauses_between_probes_double_up_to_the_longest_however_long_an_outage_lasts",
    ),
    PlantedBug(
        "each failure is told as the first of an outage",
        "logging_store/spool/breaker.py",
        "            return was_closed\n",
        "            return True\n",
        f"{BOUNDS}::test_a_breaker_says_once_that_it_opened",
    ),
    PlantedBug(
        "each write waits for the lock that blocks its session",
        "logging_store/spool/__init__.py",
        "                self._blocked.block(batch)\n",
        "",
        f"{BOUNDS}::test_what_a_lock_blocks_is_tried_by_the_drain_alone",
    ),
    PlantedBug(
        "spooled feedback is shown although its session was erased",
        "logging_store/spool/reader.py",
        '["erased_at"]):\n            return {**page, "session": session}\n        rows = [overlay.latest(',
        '["erased_at"] == 1):\n            return {**page, "session": session}\n        rows = [overlay.latest(',
        f"{BOUNDS}::test_spooled_feedback_on_a_session_that_was_erased_is_not_shown",
    ),
    PlantedBug(
        "of several claims on a spooled session the last wins",
        "logging_store/spool/overlay.py",
        'return str(rows[0]["claim"])',
        'return str(rows[-1]["claim"])',
        "tests/spool/test_spooled_claims.py::test_nobody_writes_to_a_session_of_another_user[False]",
    ),
    PlantedBug(
        "what was delivered or erased can still be read in the spool's file",
        "logging_store/spool/files.py",
        '    connection.execute("pragma secure_delete = on")  # delivered and erased records can\'t be read any more\n',
        "",
        f"{BOUNDS}::test_an_entry_that_is_removed_leaves_nothing_beside_those_that_stay",
    ),
    PlantedBug(
        "a dead letter that was erased can still be read in its file",
        "logging_store/spool/dead_letters.py",
        '            connection.execute("pragma secure_delete = on")  # removed letters can\'t be read any more\n',
        "",
        f"{BOUNDS}::test_a_dead_letter_that_is_removed_leaves_nothing_beside_those_that_stay",
    ),
    PlantedBug(
        "the guard of ownership is turned round",
        "logging_store/log_reader.py",
        "            if self._ownership.user_id is None:\n",
        "            if self._ownership.user_id is not None:\n",
        f"{READER}::test_who_is_no_user_has_no_list",
    ),
    PlantedBug(
        "a session of somebody else is found",
        "logging_store/log_reader.py",
        'found["owner"] != self._ownership.owner_of(own.id)',
        'found["owner"] == self._ownership.owner_of(own.id)',
        f"{READER}::test_a_session_of_another_is_missing",
    ),
    PlantedBug(
        "a page of feedback is nothing",
        "logging_store/log_reader.py",
        '        found = self._ask(ops.FEEDBACK, store_query)\n        return {**found, "session": '
        'require_session(found["session"])}\n',
        "        self._ask(ops.FEEDBACK, store_query)\n        return None\n",
        f"{READER}::test_a_limited_caller_reads_only_its_own_feedback",
    ),
    PlantedBug(
        "a group of as many records as one call may have is split",
        "logging_store/group_commit.py",
        "                if records < 0 or text < 0 or",
        "                if records <= 0 or text < 0 or",
        f"{GROUP_BOUNDS}::test_a_group_has_as_many_records_as_one_call_may_have",
    ),
    PlantedBug(
        "a form of nobody in particular is parsed whatever its size",
        "conversation/access/limits.py",
        "    request.max_content_length = most\n    if size() > most:\n"
        '        raise Refused("too-large", f"A form may hold {most // 1024} KB")\n',
        "    del request, most\n",
        "tests/access/test_before_proof.py::test_no_form_of_anybody_is_parsed_beyond_16_kb",
    ),
    PlantedBug(
        "a response lists each mistake of a body",
        "conversation/api/requests.py",
        "MAX_FIELDS = 20 ",
        "MAX_FIELDS = 20_000_000 ",
        "tests/access/test_amplification.py::test_the_longest_response_to_a_restricted_caller_is_ten_times_its_request",
    ),
    PlantedBug(
        "a restricted caller gets responses of any length",
        "conversation/api/requests.py",
        "    if length > MOST_TIMES * (limits.size() + _HEAD):\n",
        "    if length < 0:\n",
        "tests/access/test_amplification.py::test_the_longest_response_to_a_restricted_caller_is_ten_times_its_request",
    ),
    PlantedBug(
        "any number of heavy reads is served at once",
        "conversation/access/heavy_reads.py",
        "        if not self._turns.acquire(timeout=self._wait_s):\n",
        "        if self._turns is None:\n",
        "tests/access/test_heavy_reads.py::test_a_few_are_served_some_wait_the_rest_is_refused_and_writes_go_on",
    ),
    PlantedBug(
        "an aborted export keeps its turn",
        "conversation/access/heavy_reads.py",
        "        taken.give_back()\n",
        "        pass\n",
        "tests/access/test_heavy_reads.py::test_a_refused_or_failed_read_gives_its_turn_back",
    ),
    PlantedBug(
        "reads take all connections",
        "logging_store/postgres/function_store.py",
        "max(1, pool_size - _FOR_WRITES)",
        "max(1, pool_size)",
        "tests/store/test_connections_for_writes.py::test_reads_leave_two_connections_and_writes_and_keys_pass",
    ),
    PlantedBug(
        "one address may have all connections",
        "conversation/server/connection_counts.py",
        "            if self._open[name] < self.most:\n",
        "            if True:\n",
        "tests/server/test_arrival.py::test_an_address_has_only_so_many_connections_and_this_machine_as_many_as_it_likes",
    ),
    PlantedBug(
        "half a request takes a thread",
        "conversation/server/arrival.py",
        'return "waits" if len(data) <= MAX_HEAD else "served"',
        'return "served"',
        "tests/server/test_arrival.py::test_a_thread_is_taken_when_the_request_is_there_or_too_large_to_wait_for",
    ),
    PlantedBug(
        "what a caller wrote moves the operator's cursor",
        "conversation/printable.py",
        '    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)\n',
        "    return text\n",
        "tests/cli/test_printed_texts.py::test_an_unexpected_error_is_printable_too",
    ),
    PlantedBug(
        "old workers end before new ones serve",
        "conversation/server/succession.py",
        "        return bool(generation < current and ready < current)\n",
        "        return False\n",
        "tests/server/test_arrival.py::test_a_worker_is_awaited_until_one_of_the_next_generation_is_ready",
    ),
    PlantedBug(
        "the database's server is started with the service's secrets",
        "logging_store/embedded/binaries.py",
        "    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}\n",
        "    return dict(os.environ)\n",
        "tests/database/test_embedded.py::test_the_server_knows_nothing_of_the_services_environment",
    ),
    PlantedBug(
        "files of conversations are everybody's to read",
        "logging_store/private_files.py",
        " | os.O_CLOEXEC, 0o600)",
        " | os.O_CLOEXEC, 0o644)",
        "tests/archive/test_export.py::test_an_export_and_an_imports_rejects_are_their_owners_to_read",
    ),
    PlantedBug(
        "a transfer coding that isn't decoded is taken",
        "conversation/server/strict_request.py",
        '        if any(coding != "chunked" for coding in codings):\n',
        '        if any(coding == "gzip" for coding in codings):\n',
        "tests/server/test_strict_request.py::test_what_others_might_read_otherwise_is_refused",
    ),
    PlantedBug(
        "a copied cookie outlives signing out",
        "conversation/access/identification.py",
        "            limits.sign_out(cookie.id)\n",
        "            del cookie\n",
        "tests/access/test_page_cookie.py::test_a_copy_of_a_cookie_ends_with_its_sign_out_on_every_worker",
    ),
    PlantedBug(
        "an export doesn't tell what a page stated of a user",
        "conversation/archive/formats/turnlog_lines.py",
        "owner.startswith(TOKEN_OWNER) else {}",
        'owner == "" else {}',
        "tests/api/test_user_export.py::test_what_a_page_states_of_a_user_is_marked",
    ),
    PlantedBug(
        "a read fails while Supabase's API reconnects",
        "logging_store/postgres/reconnection.py",
        "            if time.monotonic() + pause >= give_up:\n",
        "            if True:\n",
        "tests/store/test_reconnection.py::test_a_read_waits_and_a_write_leaves_it_to_the_spool",
    ),
]
