-- A lock is one hash: token and fence of its holder, until when (µs), and the ring of the last tokens
-- given back, each behind "+" (it had held) or "-" (it had not). The ring makes a repeated release answer
-- the same and an acquire that arrives after its caller gave up take nothing.
local RING = 16

local function lock_state(key)
  local state = redis.call("HMGET", key, "token", "fence", "until", "ring")
  return state[1], tonumber(state[2]) or 0, tonumber(state[3]) or 0, state[4] or ""
end

local function given_back(ring, token)
  local at = string.find(ring, token, 1, true)
  return at and string.sub(ring, at - 1, at - 1)
end

local function remember(ring, sign, token)
  return sign .. token .. string.sub(ring, 1, (RING - 1) * (#token + 1))
end

-- Store a holder and keep the hash `keep_ms` longer than the lease: the fence must not be forgotten at once.
local function hold(key, token, fence, now, ms, keep_ms)
  redis.call("HSET", key, "token", token, "fence", fence, "until", now + ms * 1000)
  redis.call("PEXPIRE", key, ms + keep_ms)
end

-- Offer the lock to the waiters in their order: the first whose connection still listens gets a short
-- grant that it has to confirm; the next one is told when to look whether it did.
-- The waiter `me` is here and needs no message. Returns its fence when it was its turn.
local function grant(key, queue, fence, now, grant_ms, keep_ms, me)
  fence = math.max(fence + 1, now)
  while true do
    local head = redis.call("ZPOPMIN", queue)[1]
    if not head then
      return nil
    end
    if head == me then
      return fence
    end
    if redis.call("SPUBLISH", key .. ":wake:" .. head, "grant") > 0 then
      hold(key, head, fence, now, grant_ms, keep_ms)
      local next_head = redis.call("ZRANGE", queue, 0, 0)[1]
      if next_head then
        redis.call("SPUBLISH", key .. ":wake:" .. next_head, tostring(grant_ms))
      end
      return nil
    end
  end
end
