-- KEYS: record, receipt (or none).
-- ARGV: what the stored value must begin with ('' if there must be none), value, its time to live, the
-- receipt's (in ms; 0 is for ever).
-- Gives 0 saved, 1 conflict, 2 duplicate. Of two writes only the first can be refused (no memory, no disk):
-- after a script has written, Redis lets it write on.
local expected, is_expected = ARGV[1], nil
if expected == '' then
  is_expected = redis.call('EXISTS', KEYS[1]) == 0
else
  is_expected = redis.call('GETRANGE', KEYS[1], 0, #expected - 1) == expected
end
if not is_expected then
  return KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 and 2 or 1
end
if KEYS[2] and not redis.call('SET', KEYS[2], '', 'PX', ARGV[4], 'NX') then
  return 2
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 0
