#!lua flags=allow-oom
-- Remove a session, the one its id was rotated to included.
-- KEYS[1] session   KEYS[2] index
-- returns 1 removed | 0 there was none
-- replay: never, because a repeat would answer 0
-- @include session_state
local s = session_find(KEYS[1], clock_ms())
if not s then
  return 0
end
redis.call("UNLINK", KEYS[1], s.key)
if s.user then
  redis.call("ZREM", KEYS[2], s.hash)
end
return 1
