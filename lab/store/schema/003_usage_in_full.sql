-- What the usage, the headers and the diagnosis of a call say beside the plain counts.
ALTER TABLE calls ADD COLUMN served_model VARCHAR;
ALTER TABLE calls ADD COLUMN inference_geo VARCHAR;
ALTER TABLE calls ADD COLUMN first_sign_ns BIGINT;
ALTER TABLE calls ADD COLUMN first_token_ns BIGINT;
ALTER TABLE calls ADD COLUMN iterations JSON;
ALTER TABLE calls ADD COLUMN usage_note VARCHAR;
ALTER TABLE calls ADD COLUMN diagnosis VARCHAR;
ALTER TABLE calls ADD COLUMN missed_cache_tokens INTEGER;
ALTER TABLE calls ADD COLUMN rate_limits JSON;
