#!lua flags=no-writes
-- The live sessions of a user, a thousand at a time. Their keys differ from the index's in the last part only, so
-- they are in its slot.
-- KEYS[1] index
-- ARGV[1] what the session keys start with   ARGV[2] how many to skip
-- returns {how many were looked at, hash, created ms, meta or "", ms left, hash, ...}
-- replay: safe, because it only reads
-- @include session_state
local index, head = KEYS[1], ARGV[1]
local now = clock_ms()
local hashes = redis.call("ZRANGEBYSCORE", index, "(" .. string.format("%.0f", now), "+inf", "LIMIT", ARGV[2], 1000)
local answer = {#hashes}
for _, hash in ipairs(hashes) do
  local key = head .. hash
  local s = session_find(key, now)
  if s and s.key == key then
    local shown = redis.call("HMGET", key, "c", "m")
    for _, part in ipairs({hash, shown[1] or "", shown[2] or "", redis.call("PTTL", key)}) do
      answer[#answer + 1] = part
    end
  end
end
return answer
