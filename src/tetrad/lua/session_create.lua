#!lua
-- Store a new session and enter it into its user's index.
-- KEYS[1] session   KEYS[2] index
-- ARGV[1] request   ARGV[2] hash   ARGV[3] idle_ms   ARGV[4] absolute_ms   ARGV[5] user or ""   ARGV[6] meta or ""
-- ARGV[7...] field and value in turn
-- returns {created ms, ms left} | nil when the id is taken
-- replay: safe, because the session remembers the request that created it
-- @include session_new
return session_new(KEYS[1], KEYS[2])
