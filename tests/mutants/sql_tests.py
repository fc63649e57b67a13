"""Which files of tests are run for a change of the SQL: those written for what it does, then those of any write.

Tests that compare the text of functions, or the whole schema, are none of them: they would notice any change.
"""

_API, _STORE, _SPOOL = "tests/api/test_", "tests/store/test_", "tests/spool/test_"
_CONFORMANCE = f"{_STORE}store_conformance.py"
#: By a part of a file's path; the first that is found counts.
_OWN = {
    "write_sessions": [f"{_STORE}session_rules.py", f"{_API}sessions_api.py", f"{_API}merging.py"],
    "ensure_sessions": [f"{_API}sessions_api.py", f"{_API}interactions_api.py"],
    "missing_sessions": [f"{_API}sessions_api.py", f"{_API}interactions_api.py"],
    "attach_parents": [f"{_API}sessions_api.py"],
    "write_interactions": [f"{_API}interactions_api.py", f"{_API}growing_answers.py"],
    "fill_": [f"{_API}interactions_api.py", f"{_API}growing_answers.py"],
    "write/write.sql": [_CONFORMANCE, "tests/scenarios/test_folders.py", "tests/access/test_claimed_batches.py"],
    "write/write_feedback": [f"{_API}feedback.py"],
    "write/merge_user": [f"{_API}merging.py", "tests/access/test_merging.py"],
    "write/follow_merges": [f"{_API}merging.py", "tests/access/test_merging.py"],
    "rules/lock_merges": [f"{_API}merging.py"],
    "revision": [f"{_API}revisions.py", f"{_API}edited_messages.py"],
    "rules/record_rank": [f"{_API}revisions.py"],
    "rules/statement": [f"{_API}revisions.py"],
    "text": [f"{_STORE}text_retention.py", "tests/turns/test_expired_texts.py"],
    "expire_folders": [f"{_STORE}retention.py", f"{_SPOOL}retention.py"],
    "expir": [f"{_STORE}retention.py", f"{_STORE}text_retention.py"],
    "idle_sessions": [f"{_STORE}retention.py"],
    "user_hash": [f"{_API}erasing.py", f"{_SPOOL}records_of_erased_users.py"],
    "reject_erased": [f"{_SPOOL}records_of_erased_users.py"],
    "purge_project": [f"{_API}erasing.py", "tests/access/test_key_commands.py"],
    "erase/blank_messages": [f"{_API}messages_by_content.py", f"{_API}erasing.py"],
    "erase/": [f"{_API}erasing.py", f"{_API}user_export.py"],
    "claims": ["tests/access/test_claimed_batches.py"],
    "session_owners": ["tests/access/test_claimed_batches.py", "tests/access/test_ownership.py"],
    "folder": ["tests/scenarios/test_folders.py", "tests/scenarios/test_lessons.py", f"{_STORE}natural_keys.py"],
    "number_sessions": ["tests/scenarios/test_folders.py", "tests/scenarios/test_lessons.py"],
    "participants": ["tests/scenarios/test_bookings.py", f"{_SPOOL}folders_and_participants.py"],
    "key": [f"{_STORE}natural_keys.py"],
    "conflict": [f"{_STORE}natural_keys.py"],
    "rules/interaction_rule": [f"{_API}growing_ranks.py", f"{_API}growing_answers.py", f"{_API}interactions_api.py"],
    "rules/grows": [f"{_API}growing_answers.py"],
    "rules/says_more": [f"{_API}growing_answers.py"],
    "choose": [f"{_API}branches.py"],
    "edit": [f"{_API}sessions_api.py", f"{_API}merging.py"],
    "histor": [f"{_API}messages_by_content.py"],
    "content": [f"{_API}messages_by_content.py"],
    "messages": [f"{_API}messages_by_content.py"],
    "rules/fold": [f"{_API}search_api.py"],
    "rules/grams": [f"{_API}search_api.py"],
    "rules/excerpt": [f"{_API}recent.py"],
    "rules/plain": [f"{_API}search_api.py", f"{_API}recent.py"],
    "time": [f"{_API}session_times.py"],
    "date_sessions": [f"{_API}session_times.py"],
    "session_rows": [f"{_API}sessions_api.py", f"{_API}lists.py"],
}
_ALL = [_CONFORMANCE, f"{_API}interactions_api.py", f"{_API}batches_api.py", f"{_API}sessions_api.py",
        f"{_API}revisions.py", f"{_API}feedback.py", f"{_API}merging.py", f"{_API}growing_answers.py",
        f"{_API}messages_api.py", f"{_API}branches.py", "tests/turns/test_doors.py", "tests/turns/test_histories.py",
        f"{_STORE}repository.py"]  # fmt: skip
#: That any order of records gives the same rows: slow, and the last word on the rules.
PROPERTIES = [f"{_SPOOL}any_order.py", f"{_SPOOL}words_back.py", f"{_STORE}revisions_in_any_order.py"]


def test_files_of(file: str) -> tuple[list[str], list[str]]:
    """Return the files of tests of a file of `supabase/schemas`: its own, and those of any write."""
    own = next((files for part, files in _OWN.items() if part in file), [_CONFORMANCE])
    return own, [each for each in _ALL if each not in own]
