#!lua flags=allow-oom
-- Give the lock back and hand it to the next waiter; or leave the queue. Nothing of the token remains valid.
-- KEYS[1] lock   KEYS[2] queue
-- ARGV[1] token   ARGV[2] grant_ms   ARGV[3] keep_ms
-- returns 1 it was held until now | 0 it was not
-- replay: safe, because the ring remembers the answer
-- @include clock
-- @include lock_state
local key, queue, token = KEYS[1], KEYS[2], ARGV[1]
local grant_ms, keep_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local holder, fence, till, ring = lock_state(key)

local before = given_back(ring, token)
if before then
  return before == "+" and 1 or 0
end
local held = holder == token and till > now
redis.call("HSET", key, "ring", remember(ring, held and "+" or "-", token))
if holder == token then
  redis.call("HSET", key, "until", "0")
  redis.call("PEXPIRE", key, keep_ms)
  grant(key, queue, fence, now, grant_ms, keep_ms)
else
  local place = redis.call("ZRANK", queue, token)
  if place then
    redis.call("ZREM", queue, token)
    local head = place == 0 and redis.call("ZRANGE", queue, 0, 0)[1]
    if head then
      redis.call("SPUBLISH", key .. ":wake:" .. head, math.ceil(math.max(till - now, 0) / 1000))
    end
  end
  if redis.call("PTTL", key) < keep_ms then
    redis.call("PEXPIRE", key, keep_ms)
  end
end
return held and 1 or 0
