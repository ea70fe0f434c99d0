#!lua
-- Set and remove fields of a live session; never creates one. Its idle time starts again.
-- KEYS[1] session   KEYS[2] index
-- ARGV[1] request   ARGV[2] how many fields to set   ARGV[3...] field and value in turn, then the fields to remove
-- returns {ms left, request of the save before or ""} | nil when there is no session
-- replay: safe, because the session remembers its last four requests and changes nothing for a known one
-- @include session_state
local request, last = ARGV[1], 2 + 2 * tonumber(ARGV[2])
local now = clock_ms()
local s = session_find(KEYS[1], now)
if not s then
  return nil
end
local known = string.find(s.ring, request, 1, true)
if known then
  return {redis.call("PTTL", s.key), string.sub(s.ring, known + ID, known + 2 * ID - 1)}
end
session_put(s.key, 3, last)
for at = last + 1, #ARGV, 1000 do
  redis.call("HDEL", s.key, unpack(ARGV, at, math.min(at + 999, #ARGV)))
end
redis.call("HSET", s.key, "v", request .. string.sub(s.ring, 1, (RING - 1) * ID))
return {session_touch(s, KEYS[2], now), string.sub(s.ring, 1, ID)}
