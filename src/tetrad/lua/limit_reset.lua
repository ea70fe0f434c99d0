#!lua flags=allow-oom
-- Forget what a key has used of all its limits.
-- KEYS[1] state   ARGV: none
-- returns 1 there was something | 0 nothing was stored
-- replay: safe, because nothing twice is nothing
return redis.call("UNLINK", KEYS[1])
