"""OpenTelemetry in: OTLP/HTTP requests become interactions.

Bytes → `protobuf` or `otlp_json` → `Span`s → `mapping`, which asks one module of `dialects` about each → `MappedSpan`s
→ `joining`, where several spans saw one call → `placement`, which finds their sessions and writes them. Messages are
read by `conversation.turns`, as many as `budget` allows. Nothing but `receiver` knows of an HTTP request.
"""
