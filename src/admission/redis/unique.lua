-- Claims contents for messages.
-- KEYS, for each push: its content. ARGV, for each push: how long a claim lives, ms; the message's identity.
-- Says a letter per push: y(es, the claim is its), n(o, another's), e(rror: the key is not ours to read).
local said = {}
for i = 1, #KEYS do
  local key, life, identity = KEYS[i], ARGV[2 * i - 1], ARGV[2 * i]
  local owner = redis.pcall('GET', key)
  local says = 'y'
  if not owner then
    redis.call('SET', key, identity, 'PX', life)
  elseif type(owner) ~= 'string' then
    says = 'e'
  elseif owner ~= identity then
    says = 'n'
  end
  said[#said + 1] = says
end
return table.concat(said)
