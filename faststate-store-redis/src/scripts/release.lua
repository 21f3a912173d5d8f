-- Shortens the remaining lifetimes of receipts.
-- KEYS: receipts. ARGV: maximum lifetime in milliseconds.
for _, receipt in ipairs(KEYS) do
  if redis.call('PTTL', receipt) > tonumber(ARGV[1]) then
    redis.call('PEXPIRE', receipt, ARGV[1])
  end
end
return 0
