#!lua flags=no-writes
-- What a hit would be answered now, and how the limits stand. Changes nothing.
-- KEYS[1] state   ARGV[1] cost   ARGV[2...] the limits, five arguments each: id, rate, period, burst, tick
-- returns {allowed, and of each limit: remaining, retry_us (-1 never), reset_us}
-- replay: safe, because it only reads
-- @include clock
-- @include limit_decide
return (limit_decide(clock(), false))
