#!lua flags=no-writes
-- The rows that follow a given one in rank order, for walking the whole board in batches. The given row may
-- have gone since: then what follows is found by its score and, among equal scores, its head.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members
-- ARGV[1] config   ARGV[2] ranking   ARGV[3] how many rows   [ARGV[4] head .. member   ARGV[5] its score]
-- returns {position of the first row, its rank, {head .. member, score, ...}, {head .. info, ...}} | nil | another config
-- replay: safe, because it only reads
-- @include board_rows
local order, last, score = KEYS[2], ARGV[4], ARGV[5]
local config = redis.call("HGET", KEYS[1], "config")
if config and config ~= ARGV[1] then
  return config
end
local start = 0
if last then
  local position = redis.call("ZRANK", order, last)
  if position then
    start = position + 1 -- a head belongs to one score only, so this is still where it was
  else
    local number = struct.unpack(">I8", last)
    start = redis.call("ZCOUNT", order, "-inf", "(" .. score)
    local stop = redis.call("ZCOUNT", order, "-inf", score)
    while start < stop do
      local middle = math.floor((start + stop) / 2)
      if struct.unpack(">I8", redis.call("ZRANGE", order, middle, middle)[1]) < number then
        start = middle + 1
      else
        stop = middle
      end
    end
  end
end
return rows(order, KEYS[3], ARGV[2], start, start + tonumber(ARGV[3]) - 1)
