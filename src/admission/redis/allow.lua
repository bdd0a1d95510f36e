-- Counts pushes per device and minute, each message once.
-- KEYS, for each push: its device's counter of this minute; the messages that its device paid for lately.
-- ARGV, for each push: the limit; eight bytes of the message's identity.
-- Says a letter per push: y(es), n(o), e(rror: the counter is not ours to read).
local said = {}
for i = 1, #KEYS, 2 do
  local counter, payers, limit, identity = KEYS[i], KEYS[i + 1], tonumber(ARGV[i]), ARGV[i + 1]
  local paid = redis.pcall('GET', payers)
  if type(paid) ~= 'string' then paid = '' end
  local count = redis.pcall('GET', counter)
  local says = 'y'
  if not string.find(paid, identity, 1, true) then
    if count and not tonumber(count) then
      says = 'e'
    elseif count and tonumber(count) >= limit then
      says = 'n'
    elseif type(redis.pcall('INCR', counter)) ~= 'number' then
      says = 'e'
    else
      redis.call('EXPIRE', counter, 60)
      redis.call('SET', payers, string.sub(identity .. paid, 1, 256), 'EX', 120)
    end
  end
  said[#said + 1] = says
end
return table.concat(said)
