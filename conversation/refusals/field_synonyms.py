"""Synonyms of our fields in other loggers, the likeliest first: for suggestions, and for importing their tables."""

from collections.abc import Mapping

SESSION = (
    "session_id conversation_id chat_id thread_id session conversation chat thread session_uuid session_key dialog_id"
)
USER = "user_id userid owner_id customer_id profile_id account_id user author_id created_by username"
BEGUN = (
    "started_at start_time begun_at created_at timestamp created inserted_at logged_at occurred_at sent_at time ts date"
)
METADATA = "metadata meta extra extras data attributes properties context_data"
STATUS = "status state"
TAGS = "tags labels"
TITLE = "title name topic subject session_name"
ENDED = "ended_at end_time closed_at finished_at completed_at"
MODEL = "model model_name model_id llm llm_model ai_model engine"
PROVIDER = "provider model_provider llm_provider vendor"
INPUT_TOKENS = "input_tokens prompt_tokens tokens_in tokens_input tokens_prompt input_token_count"
OUTPUT_TOKENS = (
    "output_tokens completion_tokens response_tokens tokens_out tokens_output tokens_completion output_token_count"
)
CACHED = "cached_input_tokens cached_tokens cache_read_tokens cache_read_input_tokens prompt_cached_tokens"
CACHE_WRITE = "cache_write_tokens cache_creation_input_tokens cache_creation_tokens cache_write_input_tokens"
REASONING = "reasoning_tokens reasoning_output_tokens thinking_tokens thoughts_token_count"
LATENCY = "latency_ms duration_ms response_time_ms elapsed_ms latency_millis processing_time_ms response_ms"
UNTIL_FIRST = "time_to_first_token_ms ttft_ms first_token_ms"
COST = "cost_usd cost total_cost total_cost_usd price_usd"
ERROR = "error error_message error_text error_msg failure_reason"
FINISH_REASON = "finish_reason stop_reason"
INTERACTION = "id interaction_id message_id log_id turn_id uuid"
PROMPT = (
    "user_input prompt question input user_message user_prompt query user_query user_text human_message"
    " input_text request message messages"
)
RESPONSE = (
    "ai_response response answer output completion assistant_message bot_response assistant_response ai_message"
    " bot_message reply ai_output model_response output_text response_text generated_text"
)
COMPLETED = "completed_at ended_at end_time finished_at responded_at answered_at"
TURN = "turn turn_number turn_index sequence sequence_number position seq"
ROLE = "role sender sender_type message_role speaker author_role sender_role author"
CONTENT = "content text body message message_text message_content value"

#: Sums of tokens: Turnlog has no field for them.
SUMS_OF_TOKENS = frozenset({"tokens_used", "total_tokens", "token_count", "tokens"})

#: The synonyms of each field and parameter, for suggestions about unknown names.
OF_FIELDS: Mapping[str, str] = {
    "prompt": PROMPT,
    "response": RESPONSE,
    "content": CONTENT,
    "role": ROLE,
    "model": MODEL,
    "provider": PROVIDER,
    "input_tokens": INPUT_TOKENS,
    "output_tokens": OUTPUT_TOKENS,
    "cached_input_tokens": CACHED,
    "cache_write_tokens": CACHE_WRITE,
    "reasoning_tokens": REASONING,
    "latency_ms": f"{LATENCY} latency duration",
    "time_to_first_token_ms": f"{UNTIL_FIRST} ttft",
    "cost_usd": f"{COST} price",
    "error": ERROR,
    "finish_reason": FINISH_REASON,
    "turn": TURN,
    "tags": f"{TAGS} tag",
    "tag": "tags label labels",
    "metadata": METADATA,
    "status": STATUS,
    "title": TITLE,
    "user_id": USER,
    "interaction_id": INTERACTION,
    "session_id": f"{SESSION} id uuid",
    "session": SESSION,
    "conversation_id": SESSION,
    "message_id": "id uuid",
    "folder_id": "folder id uuid",
    "participant": "user name",
    "started_at": BEGUN,
    "completed_at": COMPLETED,
    "ended_at": ENDED,
    "reply_to": "parent_id parent reply_to_id in_reply_to",
    "alternative_to": "alternative_of replaces regenerates regenerated_from edited_from variant_of",
    "value": "rating score thumb vote",
    "comment": "note text message",
    "given_at": BEGUN,
    "from": "since after start start_date start_time not_before started_after",
    "to": "until before end end_date end_time started_before",
    "limit": "page_size per_page size count max top n",
    "cursor": "next page page_token offset starting_after",
    "q": "query search text term terms",
    "name": "title key search",
    "has_errors": "errors error failed",
    "dry_run": "explain dry dryrun preview simulate",
    "interactions": "items records batch data events messages logs",
}
