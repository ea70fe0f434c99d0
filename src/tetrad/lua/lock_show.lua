#!lua flags=no-writes
-- Who holds the lock.
-- KEYS[1] lock   KEYS[2] queue
-- returns {token, fence, ms left, waiters} | nil when it is free
-- replay: safe, because it only reads
-- @include clock
local now = clock()
local state = redis.call("HMGET", KEYS[1], "token", "fence", "until")
local left = (tonumber(state[3]) or 0) - now
if left <= 0 then
  return nil
end
return {state[1], state[2], math.ceil(left / 1000), redis.call("ZCARD", KEYS[2])}
