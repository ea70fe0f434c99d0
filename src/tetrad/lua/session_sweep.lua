#!lua flags=allow-oom
-- Remove sessions of a user, all but one if asked, a thousand at a time. Their keys differ from the index's in the
-- last part only, so they are in its slot.
-- KEYS[1] index
-- ARGV[1] what the session keys start with   ARGV[2] hash of the session to keep, or ""
-- returns {how many were alive, 1 when there are more}
-- replay: never, because a repeat would count fewer
-- @include session_state
local index, head, keep = KEYS[1], ARGV[1], ARGV[2]
local now = clock_ms()
local kept = keep ~= "" and session_find(head .. keep, now)
local hashes = redis.call("ZRANGE", index, 0, 1000)
local ended = 0
for _, hash in ipairs(hashes) do
  if not kept or hash ~= kept.hash then
    if session_find(head .. hash, now) then
      ended = ended + 1
    end
    redis.call("UNLINK", head .. hash)
    redis.call("ZREM", index, hash)
  end
end
return {ended, #hashes > 1000 and 1 or 0}
