-- Counts the unfinished messages of a part of the records, oldest message first.
-- KEYS: index of oldest messages. ARGV: number of entries before this part, maximum number of entries in it, maximum
-- number of records to list.
-- Returns the server's time in milliseconds, the number of entries before the next part (-1: there is none), the
-- numbers of waiting and parked messages, the time of the oldest message, and the first records with these times.
-- An entry whose record has expired is removed.
local start, count, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept, all_waiting, all_parked, first, found = 0, 0, 0, false, {}
local entries = redis.call('ZRANGE', KEYS[1], start, start + count - 1, 'WITHSCORES')
for at = 1, #entries, 2 do
  local _, oldest, waiting, parked = header(entries[at])
  if oldest == entries[at + 1] then
    kept = kept + 1
    all_waiting, all_parked, first = all_waiting + waiting, all_parked + parked, first or oldest
    if kept <= limit then
      found[2 * kept - 1], found[2 * kept] = entries[at], oldest
    end
  else
    redis.call('ZREM', KEYS[1], entries[at])
  end
end
return { now(), #entries == 2 * count and start + kept or -1, all_waiting, all_parked, first, found }
