#!lua
-- Decide several limits together: charge the cost to all of them, or to none.
-- KEYS[1] state   ARGV[1] cost   ARGV[2...] the limits, five arguments each: see the include
-- returns {allowed, then for each limit: remaining, retry_us (-1 never), reset_us}
-- replay: never, because the second hit would be counted too
-- @include clock
-- @include limit_decide
local cost = tonumber(ARGV[1])
local reply, state, longest, correct = limit_decide(clock(), cost)
if longest > 0 and (correct or (reply[1] == 1 and cost > 0)) then
  redis.call("SET", KEYS[1], state, "PX", string.format("%.0f", math.ceil(longest / 1000) + 1))
end
return reply
