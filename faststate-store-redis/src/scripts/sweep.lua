-- Removes entries whose records have expired from a random part of the indexes.
-- KEYS: index of due times, index of oldest messages. ARGV: maximum number of entries to look at in each.
-- Returns the number of removed entries.
local removed = 0
for index = 1, 2 do
  local entries = redis.call('ZRANDMEMBER', KEYS[index], ARGV[1], 'WITHSCORES')
  for at = 1, #entries, 2 do
    local times = { header(entries[at]) }
    if times[index] ~= entries[at + 1] then
      removed = removed + redis.call('ZREM', KEYS[index], entries[at])
    end
  end
end
return removed
