#!lua
-- Move a session to a new id; for the grace the old one leads to it.
-- KEYS[1] session   KEYS[2] session under its new id   KEYS[3] index
-- ARGV[1] hash of the new id   ARGV[2] grace_ms
-- returns 1 moved | 0 another call has moved it, the old id holds during its grace | nil when there is no session
-- replay: safe, because nobody else knows the new id: if it exists, this request has made it
-- @include session_state
local key, new, index = KEYS[1], KEYS[2], KEYS[3]
local grace = tonumber(ARGV[2])
local now = clock_ms()
if redis.call("EXISTS", new) == 1 then
  return 1
end
local s = session_find(key, now)
if not s then
  return nil
end
if s.key ~= key then
  return 0
end
local left = redis.call("PTTL", key)
redis.call("RENAME", key, new)
if s.user then
  redis.call("ZREM", index, s.hash)
  redis.call("ZADD", index, string.format("%.0f", now + left), ARGV[1])
  redis.call("PEXPIRE", index, math.max(left, redis.call("PTTL", index)))
end
if grace > 0 then
  redis.call("HSET", key, "n", ARGV[1])
  redis.call("PEXPIRE", key, math.min(grace, s.till - now))
end
return 1
