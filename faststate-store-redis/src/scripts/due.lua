-- Lists records whose due time has come, earliest first.
-- KEYS: index of due times. ARGV: maximum number of records.
-- Returns the server's time in milliseconds, and the records with their due times.
-- An entry whose record has expired is removed. A call looks at a bounded number of such entries.
local now, limit, found, start = now(), tonumber(ARGV[1]), {}, 0
for _ = 1, 100 do
  if start >= limit then
    break
  end
  local count = math.min(math.max(limit - start, 100), 1000)
  local entries = redis.call(
    'ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', start, count
  )
  for at = 1, #entries, 2 do
    if start >= limit then
      break
    end
    if header(entries[at]) == entries[at + 1] then
      start = start + 1
      found[2 * start - 1], found[2 * start] = entries[at], entries[at + 1]
    else
      redis.call('ZREM', KEYS[1], entries[at])
    end
  end
  if #entries < 2 * count then
    break
  end
end
return { now, found }
