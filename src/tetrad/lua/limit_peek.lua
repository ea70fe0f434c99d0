#!lua flags=no-writes
-- What a hit would be answered now; changes nothing.
-- KEYS[1] state   ARGV[1] cost   ARGV[2...] the limits, five arguments each: see the include
-- returns {allowed, then for each limit: remaining, retry_us (-1 never), reset_us}, uncharged
-- replay: safe, because it only reads
-- @include clock
-- @include limit_decide
local now, cost = clock(), tonumber(ARGV[1])
local reply = limit_decide(now, cost)
if cost > 0 and reply[1] == 1 then
  local allowed = reply[1]
  reply = limit_decide(now, 0) -- as it stands, not as it would be
  reply[1] = allowed
end
return reply
