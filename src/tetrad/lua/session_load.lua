#!lua flags=allow-oom
-- All of a session, whose idle time starts again.
-- KEYS[1] session   KEYS[2] index
-- returns {ms left, {field, value, ...}} | nil when there is none
-- replay: safe, because touching twice is touching
-- @include session_state
local now = clock_ms()
local s = session_find(KEYS[1], now)
if not s then
  return nil
end
return {session_touch(s, KEYS[2], now), redis.call("HGETALL", s.key)}
