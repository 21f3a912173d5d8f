-- KEYS: record, receipt (or none).
-- ARGV: what the stored value must begin with ('' if there must be none), value, its time to live, the
-- receipt's (in ms; 0 is for ever).
-- Gives 0 saved, 1 conflict, 2 duplicate. The record goes first: what can be refused (no memory) then
-- is refused before anything is written.
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  return 2
end
local expected = ARGV[1]
if expected == '' then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return 1
  end
elseif redis.call('GETRANGE', KEYS[1], 0, #expected - 1) ~= expected then
  return 1
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if KEYS[2] then
  redis.call('SET', KEYS[2], '', 'PX', ARGV[4])
end
return 0
