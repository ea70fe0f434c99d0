#!lua flags=allow-oom
-- Store the empty session that follows one just ended by a logout, which also works while memory is full.
-- KEYS[1] session   KEYS[2] index
-- ARGV as in session_create
-- returns {created ms, ms left} | nil when the id is taken
-- replay: safe, because the session remembers the request that created it
-- @include session_new
return session_new(KEYS[1], KEYS[2])
