#!lua flags=allow-oom
-- Remove the board with all that is stored of it, its configuration too, whatever that is.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members
-- returns how many members were on it
-- replay: never, because members may have been entered meanwhile
local count = redis.call("ZCARD", KEYS[2])
redis.call("UNLINK", KEYS[1], KEYS[2], KEYS[3])
return count
