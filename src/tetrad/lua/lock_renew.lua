#!lua flags=allow-oom
-- Prolong leases that are still held. Never creates one, never shortens one: renewals may overtake each other.
-- KEYS[i] lock   ARGV[1] keep_ms   ARGV[2i] token   ARGV[2i+1] ttl_ms
-- returns one number a key: 1 prolonged | 0 lost
-- replay: safe, because prolonging twice is prolonging
-- @include clock
-- @include lock_state
local keep_ms = tonumber(ARGV[1])
local now = clock()
local answers = {}
for i, key in ipairs(KEYS) do
  local token, ms = ARGV[2 * i], tonumber(ARGV[2 * i + 1])
  local ok, holder, fence, till = pcall(lock_state, key) -- not ok: the key is no lock any more, which is one loss only
  if ok and holder == token and till > now then
    hold(key, token, fence, now, math.max(ms, math.ceil((till - now) / 1000)), keep_ms)
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
