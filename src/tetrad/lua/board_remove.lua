#!lua flags=allow-oom
-- Take a member off the board; with the last one goes all that is stored of the board.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members   ARGV[1] config   ARGV[2] member
-- returns 1 removed | 0 it was not there | another config
-- replay: never, because the second answer would be 0, and the member may have come back meanwhile
-- @include board_head
local config = redis.call("HGET", KEYS[1], "config")
if config and config ~= ARGV[1] then
  return config
end
local mine = stored_of(KEYS[3], ARGV[2])
if not mine then
  return 0
end
redis.call("HDEL", KEYS[3], ARGV[2])
local removed = redis.call("ZREM", KEYS[2], mine)
if redis.call("EXISTS", KEYS[2]) == 0 then
  redis.call("UNLINK", KEYS[1], KEYS[3])
end
return removed
