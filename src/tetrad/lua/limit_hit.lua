#!lua
-- Decide several limits together: charge the cost to all of them, or to none.
-- KEYS[1] state   ARGV[1] cost   ARGV[2...] the limits, five arguments each: id, rate, period, burst, tick
-- returns {allowed, and of each limit: remaining, retry_us (-1 never), reset_us}
-- replay: never, because the second hit would be counted too
-- @include clock
-- @include limit_decide
local now = clock()
local reply, state, store = limit_decide(now, true)
if store then
  local free = now
  for at = 5, #state, 5 do
    free = math.max(free, state[at])
  end
  redis.call("SET", KEYS[1], limit_text(state), "PX", math.ceil((free - now) / 1000) + 1)
end
return reply
