-- KEYS: record. ARGV: what the stored value must begin with. Gives 1 if it was deleted.
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
