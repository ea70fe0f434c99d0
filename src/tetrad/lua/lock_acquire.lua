#!lua
-- Take the lock if it is free or already ours (the same token), else join its queue if asked to.
-- KEYS[1] lock   KEYS[2] queue
-- ARGV[1] token   ARGV[2] ttl_ms   ARGV[3] "1" to join the queue   ARGV[4] grant_ms   ARGV[5] keep_ms
-- returns {1, fence} taken | {0, ms until the lease in the way lapses, position in the queue or 0}
-- replay: safe, because the holder's token gets the same fence again
-- @include clock
-- @include lock_state
local key, queue, token = KEYS[1], KEYS[2], ARGV[1]
local ttl_ms, grant_ms, keep_ms = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = clock()
local holder, fence, till, ring = lock_state(key)

if given_back(ring, token) then
  return {0, 0, 0} -- its caller has given up meanwhile
end
if till > now then
  if holder == token then
    hold(key, token, fence, now, ttl_ms, keep_ms)
    return {1, fence}
  end
else
  local mine = math.max(fence + 1, now)
  if redis.call("EXISTS", queue) == 1 then
    mine = grant(key, queue, fence, now, grant_ms, keep_ms, token)
    if not mine then
      holder, fence, till, ring = lock_state(key)
      mine = till <= now and math.max(fence + 1, now) -- nobody in the queue was alive
    end
  end
  if mine then
    hold(key, token, mine, now, ttl_ms, keep_ms)
    return {1, mine}
  end
end

local wait_ms = math.ceil((till - now) / 1000)
if ARGV[3] ~= "1" then
  return {0, wait_ms, 0}
end
local place = redis.call("ZRANK", queue, token)
if not place then
  local last = redis.call("ZRANGE", queue, -1, -1, "WITHSCORES")[2] -- ahead of the clock if that stepped back
  redis.call("ZADD", queue, math.max(now, (tonumber(last) or 0) + 1), token)
  place = redis.call("ZRANK", queue, token)
end
redis.call("PEXPIRE", queue, keep_ms)
return {0, wait_ms, place + 1}
