-- @include session_state
-- Store a session under an id that nobody has; ARGV as in session_create, fields from ARGV[7] on.
local function session_new(key, index)
  local now = clock_ms()
  local request, idle, absolute = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
  local ring = redis.call("HGET", key, "v")
  if ring then
    if not string.find(ring, request, 1, true) then
      return nil
    end
    return {tonumber(redis.call("HGET", key, "c")), redis.call("PTTL", key)}
  elseif redis.call("EXISTS", key) == 1 then
    return nil
  end
  local user = ARGV[5] ~= "" and ARGV[5]
  redis.call("HSET", key, "f", "1", "c", string.format("%.0f", now), "a", string.format("%.0f", now + absolute),
    "i", ARGV[3], "v", request)
  if user then
    redis.call("HSET", key, "u", user)
  end
  if ARGV[6] ~= "" then
    redis.call("HSET", key, "m", ARGV[6])
  end
  session_put(key, 7, #ARGV)
  local left = math.min(idle, absolute)
  session_expire({key = key, hash = ARGV[2], user = user}, index, now, left)
  return {now, left}
end
