-- KEYS: id of the store
-- ARGV: the id that is to go
-- Answers how many went: one or none.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
