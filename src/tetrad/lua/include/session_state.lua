-- @include clock
-- A session is one hash: f format, c created, a absolute deadline, i idle (all ms), u user (none: anonymous), m meta,
-- v the request ids of the last saves, newest first, and each value in its field, behind a dot. What was rotated keeps
-- only n, the hash of its successor, for the grace; k is the request of the login that ended it (dead at once).
-- All sessions of a user have one index: hashes, scored with the time (ms) at which they will have idled out.
local ID, RING = 8, 4 -- length of a request id, how many are remembered
local HASH = 43
local KILLED_MS = 5000 -- how long a login's repeat is answered

local function clock_ms()
  return math.floor(clock() / 1000)
end

-- The live session that `key` holds or was rotated to; nil when there is none. The keys of all its
-- generations differ in the hash only, so they are in one slot.
local function session_find(key, now, request)
  for _ = 1, 100 do
    local s = redis.call("HMGET", key, "n", "k", "a", "i", "u", "v")
    if not s[1] then
      local till, idle = tonumber(s[3]), tonumber(s[4])
      if not till or not idle or till <= now or (s[2] and s[2] ~= request) then
        return nil
      end
      return {key = key, hash = string.sub(key, -HASH), till = till, idle = idle, user = s[5], ring = s[6] or ""}
    end
    key = string.sub(key, 1, -HASH - 1) .. s[1]
  end
end

-- Write the time the session has left, into its own key and its user's index.
local function session_expire(s, index, now, left)
  redis.call("PEXPIRE", s.key, left)
  if s.user then
    redis.call("ZREMRANGEBYSCORE", index, "-inf", string.format("%.0f", now))
    redis.call("ZADD", index, string.format("%.0f", now + left), s.hash)
    if redis.call("PTTL", index) < left then
      redis.call("PEXPIRE", index, left)
    end
  end
end

-- It is in use: start its idle time again, in steps of a hundredth. Returns the ms it has left.
local function session_touch(s, index, now)
  local left = math.min(s.idle, s.till - now)
  local has = redis.call("PTTL", s.key)
  if has >= 0 and has <= left and left - has <= s.idle / 100 then
    return has
  end
  session_expire(s, index, now, left)
  return left
end

-- Set the fields in ARGV[first..last], name and value in turn.
local function session_put(key, first, last)
  for at = first, last, 1000 do
    redis.call("HSET", key, unpack(ARGV, at, math.min(at + 999, last)))
  end
end
