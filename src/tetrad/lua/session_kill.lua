#!lua flags=allow-oom
-- End a session for a login that has copied it; tell what it held if somebody saved it after it was copied.
-- KEYS[1] session   KEYS[2] index
-- ARGV[1] request   ARGV[2] request of the last save that the copy contains
-- returns 1 ended as copied | {field, value, ...} ended, but changed before | nil when there was no session
-- replay: safe, because the dead session remembers for up to five seconds which request ended it
-- @include session_state
local request = ARGV[1]
local now = clock_ms()
local s = session_find(KEYS[1], now, request)
if not s then
  return nil
end
redis.call("HSET", s.key, "k", request)
redis.call("PEXPIRE", s.key, math.min(KILLED_MS, redis.call("PTTL", s.key)))
if s.user then
  redis.call("ZREM", KEYS[2], s.hash)
end
if string.sub(s.ring, 1, ID) == ARGV[2] then
  return 1
end
return redis.call("HGETALL", s.key)
