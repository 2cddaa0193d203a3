-- What a request asked of the factors that its answer names, its thread, and when its first tool
-- input was whole.
ALTER TABLE calls ADD COLUMN thread_id VARCHAR;
ALTER TABLE calls ADD COLUMN whole_tool_ns BIGINT;
ALTER TABLE calls ADD COLUMN asked JSON;
