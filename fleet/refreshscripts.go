package fleet

// The keys of refresh tokens, in one slot of a cluster. A record is the user, a
// line end and a text; the list of users has "USER NUL HASH" for each.
func refreshKeys(prefix string) []string {
	k := prefix + ":{fleet}:refresh"
	return []string{
		k,            // hash: record by hash of the token
		k + "-used",  // sorted set: hashes by last use, in milliseconds
		k + "-users", // sorted set, in the order of its texts
	}
}

// luaRefresh has what the scripts below share. None of it trusts what is there:
// a record without a last use, or of no user, is none.
const luaRefresh = luaNow + `
local function user(hash) return string.match(redis.call('HGET', KEYS[1], hash) or '', '^([^\n]*)\n') end
local function remove(hash)
  local name = user(hash)
  if name then redis.call('ZREM', KEYS[3], name .. '\0' .. hash) end
  redis.call('ZREM', KEYS[2], hash)
  return redis.call('HDEL', KEYS[1], hash)
end
local function sweep(life, most)
  local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - life, 'LIMIT', 0, most)
  for _, hash in ipairs(over) do remove(hash) end
  return #over
end
local function keep(life)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, life + 86400000) end
end
`

// refreshGetScript answers user, text and milliseconds since the last use, or
// nothing. ARGV: hash, life in milliseconds, longest record.
var refreshGetScript = script(luaRefresh + `
local used = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '')
if not used or used <= now - ARGV[2] or redis.call('HSTRLEN', KEYS[1], ARGV[1]) > tonumber(ARGV[3]) then return {} end
local name, value = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^([^\n]*)\n(.*)$')
if not name then return {} end
return {name, value, text(math.max(0, now - used))}
`)

// refreshAddScript keeps a token and answers 1, or "full". ARGV: hash, user, text,
// life, most, most of a user, idle time after which one makes room.
var refreshAddScript = script(luaRefresh + `
local hash, name, idle = ARGV[1], ARGV[2], now - ARGV[7]
sweep(ARGV[4], 100)
if redis.call('ZLEXCOUNT', KEYS[3], '[' .. name .. '\0', '(' .. name .. '\1') >= tonumber(ARGV[6]) then
  local longest, at
  for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '[' .. name .. '\0', '(' .. name .. '\1')) do
    local other = string.sub(member, #name + 2)
    local used = tonumber(redis.call('ZSCORE', KEYS[2], other) or '0')
    if not at or used < at then longest, at = other, used end
  end
  if at > idle then return {'full'} end
  remove(longest)
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if tonumber(oldest[2]) > idle then return {'full'} end
  remove(oldest[1])
end
redis.call('HSET', KEYS[1], hash, name .. '\n' .. ARGV[3])
redis.call('ZADD', KEYS[2], now, hash)
redis.call('ZADD', KEYS[3], 0, name .. '\0' .. hash)
keep(ARGV[4])
return {'1'}
`)

// refreshUseScript notes uses of those that are there. ARGV: life, then hash and
// milliseconds since.
var refreshUseScript = script(luaRefresh + `
local any = false
for i = 2, #ARGV, 2 do
  local used = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or '')
  local at = now - ARGV[i+1]
  if used and at > used then
    redis.call('ZADD', KEYS[2], at, ARGV[i])
    any = true
  end
end
if any then keep(ARGV[1]) end
return {}
`)

// refreshDeleteScript answers how many there were. ARGV: hashes.
var refreshDeleteScript = script(luaRefresh + `
local n = 0
for _, hash in ipairs(ARGV) do n = n + remove(hash) end
return {text(n)}
`)

// luaTellRefresh lists records: hash, user, text and milliseconds since the last
// use of each.
const luaTellRefresh = `
local out = {}
local function tell(hash, record)
  local used = tonumber(redis.call('ZSCORE', KEYS[2], hash) or '')
  local name, value = string.match(record, '^([^\n]*)\n(.*)$')
  if used and name and #hash <= 64 and #record <= most then
    for _, v in ipairs({hash, name, value, text(math.max(0, now - used))}) do out[#out+1] = v end
  end
end
`

// refreshOfScript lists a user's. ARGV: user, most, longest record.
var refreshOfScript = script(luaRefresh + `local most = tonumber(ARGV[3])` + luaTellRefresh + `
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], '[' .. ARGV[1] .. '\0', '(' .. ARGV[1] .. '\1', 'LIMIT', 0, ARGV[2])) do
  local hash = string.sub(member, #ARGV[1] + 2)
  tell(hash, redis.call('HGET', KEYS[1], hash) or '')
end
return out
`)

// refreshScanScript lists some of all and answers where to go on first, 0 at the
// end. What is there all the while is told, perhaps twice. ARGV: where, about how
// many, longest record.
var refreshScanScript = script(luaRefresh + `local most = tonumber(ARGV[3])` + luaTellRefresh + `
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
out[1] = found[1]
for i = 1, #found[2], 2 do tell(found[2][i], found[2][i+1]) end
return out
`)

// refreshSweepScript forgets some that are over, and answers how many these were
// and how many there are. ARGV: life, most at once.
var refreshSweepScript = script(luaRefresh + `
local n = sweep(ARGV[1], ARGV[2])
return {text(n), text(redis.call('ZCARD', KEYS[2]))}
`)
