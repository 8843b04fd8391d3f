package fleet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// keys are in one slot of a cluster, so that one script may use all of them.
type keys struct{ head, alive, texts, revoked, revokedAt, overrides, channel string }

func newKeys(prefix string) keys {
	k := prefix + ":{fleet}"
	return keys{
		head:      k + ":head",       // hash: gen, seq, reload, asked
		alive:     k + ":alive",      // sorted set: instances by when they are given up
		texts:     k + ":instances",  // hash: what they say of themselves
		revoked:   k + ":revoked",    // sorted set: users by when their revocation is forgotten
		revokedAt: k + ":revoked-at", // hash: its time
		overrides: k + ":overrides",  // hash: limit to "END ORDER KEEP JSON"; END 0: it is over, and that is remembered until KEEP
		channel:   k,
	}
}

func (k keys) instances() []string   { return []string{k.head, k.alive, k.texts} }
func (k keys) revocations() []string { return []string{k.head, k.revoked, k.revokedAt} }
func (k keys) limits() []string      { return []string{k.head, k.overrides} }

// The parts that scripts have in common. Times are milliseconds of Redis' clock.
// Every number is answered as text: Redis would cut it to 64 bits, and a client
// could take it for something else.
const (
	luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(n) return string.format('%.0f', n) end
`
	// tell says on the channel that there is something to be read.
	luaTell = `
local function tell()
  local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
  local gen = redis.call('HGET', KEYS[1], 'gen') or ''
  redis.call('PUBLISH', ARGV[1], string.sub(gen, 1, 64) .. ' ' .. text(seq))
  return text(seq)
end
`
)

// beatScript says that an instance is there, and answers what has changed.
// ARGV: id, text, milliseconds, most instances, generation if there is none.
var beatScript = script(luaNow + `
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
end
local ends = now + ARGV[3]
local there = 0
if redis.call('ZCARD', KEYS[2]) < tonumber(ARGV[4]) or redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[2], ends, ARGV[1])
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
  there = 1
end
redis.call('PEXPIRE', KEYS[2], 86400000)
redis.call('PEXPIRE', KEYS[3], 86400000)
local function field(name, most)
  if redis.call('HSTRLEN', KEYS[1], name) > most then return '' end
  return redis.call('HGET', KEYS[1], name) or ''
end
local gen = field('gen', 64)
if gen == '' or not tonumber(field('seq', 16)) then
  gen = ARGV[5]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'gen', gen, 'seq', 0)
end
return {text(now), text(there), gen, field('seq', 16), field('reload', 16), field('asked', 4096)}
`)

// leaveScript says that an instance is gone. ARGV: id.
var leaveScript = script(`
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return {}
`)

// instancesScript answers id, text and milliseconds left of each. ARGV: most
// instances, longest text.
var instancesScript = script(luaNow + `
local all = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. text(now), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local out = {}
for i = 1, #all, 2 do
  if #all[i] <= 256 and redis.call('HSTRLEN', KEYS[3], all[i]) <= tonumber(ARGV[2]) then
    out[#out+1] = all[i]
    out[#out+1] = redis.call('HGET', KEYS[3], all[i]) or ''
    out[#out+1] = text(all[i+1] - now)
  end
end
return out
`)

// revokeScript keeps revocations and answers the last change and the time each
// was taken at. ARGV: channel, most users, 1 to move each behind what is known,
// then user, time and milliseconds to keep it.
var revokeScript = script(luaNow + luaTell + `
for _, user in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[2], user)
  redis.call('HDEL', KEYS[3], user)
end
local took, changed, longest = {}, false, 0
for i = 4, #ARGV, 3 do
  local user, at, ends = ARGV[i], tonumber(ARGV[i+1]), now + ARGV[i+2]
  local known = tonumber(redis.call('ZSCORE', KEYS[2], user) or '')
  if not known and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then
    user = '' -- everybody
    known = tonumber(redis.call('ZSCORE', KEYS[2], user) or '')
  end
  local had = known and tonumber(redis.call('HGET', KEYS[3], user) or '')
  if had and not (had > 0 and had < 9007199254740000) then had = nil end
  if had and had >= at and ARGV[3] == '1' then at = had + 1 end
  if had and had >= at then
    at = had
  else
    redis.call('HSET', KEYS[3], user, text(at))
    redis.call('ZADD', KEYS[2], math.max(ends, known or 0), user)
    changed = true
  end
  longest = math.max(longest, tonumber(ARGV[i+2]))
  took[#took+1] = text(at)
end
local seq
if changed then
  for _, key in ipairs({KEYS[2], KEYS[3]}) do
    redis.call('PEXPIRE', key, math.max(longest, redis.call('PTTL', key)))
  end
  seq = tell()
else
  seq = redis.call('HGET', KEYS[1], 'seq') or '0'
end
table.insert(took, 1, seq)
return took
`)

// revokedScript answers how many there are from ARGV[1] to ARGV[2], then user,
// time and milliseconds left of each. ARGV[3]: longest name.
var revokedScript = script(luaNow + `
local all = redis.call('ZRANGE', KEYS[2], ARGV[1], ARGV[2], 'WITHSCORES')
local out = {text(#all / 2)}
for i = 1, #all, 2 do
  local left = all[i+1] - now
  if left > 0 and #all[i] <= tonumber(ARGV[3]) and redis.call('HSTRLEN', KEYS[3], all[i]) <= 20 then
    out[#out+1] = all[i]
    out[#out+1] = redis.call('HGET', KEYS[3], all[i]) or ''
    out[#out+1] = text(math.min(left, 9007199254740000))
  end
end
return out
`)

// luaRead reads END, ORDER, KEEP and text of an override; nil is none that can be
// read. None is remembered for longer than twice the longest there may be.
const luaRead = `
local function read(limit)
  if redis.call('HSTRLEN', KEYS[2], limit) > 16384 then return end
  local ends, order, keep, value = string.match(redis.call('HGET', KEYS[2], limit) or '', '^(%d+) (%d+) (%d+) (.*)$')
  ends, order, keep = tonumber(ends), tonumber(order), tonumber(keep)
  if not keep or keep > now + 5184000000 or order > 9007199254740000 then return end
  if ends <= now then ends = 0 end
  return ends, order, keep, value
end
`

// overrideScript keeps one override, or that it is over, and answers the last
// change, 1, "full" or "newer", the order it has now, and for how many
// milliseconds it is remembered, 0 if that is needless. ARGV: channel, most, limit,
// order, milliseconds it lasts, milliseconds to remember it at least, 1 if one that
// was made later counts, text or "" if it is over.
var overrideScript = script(luaNow + luaTell + luaRead + `
local function answer(what, order, keep)
  return {redis.call('HGET', KEYS[1], 'seq') or '0', what, text(order), text(math.max(0, keep - now))}
end
local most, limit, order, keep = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), now + ARGV[6]
local _, known, until_ = read(limit)
if known and until_ > now then
  keep = math.max(keep, until_)
  if ARGV[7] == '1' and known > order then return answer('newer', known, until_) end
  if ARGV[7] == '1' and known == order then return answer('1', known, until_) end
  order = math.max(order, known + 1)
end
if redis.call('HLEN', KEYS[2]) > 2 * most then return answer('full', order, keep) end
local live, over = 0, {}
for _, other in ipairs(redis.call('HKEYS', KEYS[2])) do
  local ends, _, keep = read(other)
  if keep and keep <= now then
    redis.call('HDEL', KEYS[2], other)
  elseif other ~= limit and ends == 0 then
    over[#over+1] = {keep, other}
  elseif other ~= limit then
    live = live + 1
  end
end
table.sort(over, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
local ends, rest = now + ARGV[5], most
if ARGV[8] == '' then ends = 0 end
if ends == 0 and keep > now then rest = most - 1 end
for i = 1, #over - rest do redis.call('HDEL', KEYS[2], over[i][2]) end
if ends > 0 and live >= most then return answer('full', order, keep) end
if keep > now then
  redis.call('HSET', KEYS[2], limit, text(ends) .. ' ' .. text(order) .. ' ' .. text(keep) .. ' ' .. ARGV[8])
  redis.call('PEXPIRE', KEYS[2], math.max(keep - now, redis.call('PTTL', KEYS[2])))
else
  redis.call('HDEL', KEYS[2], limit)
end
tell()
return answer('1', order, keep)
`)

// overridesScript answers limit, milliseconds left, milliseconds to remember it,
// order and text of each, and drops what is over. ARGV: most fields, longest value.
var overridesScript = script(luaNow + luaRead + `
local many = redis.call('HLEN', KEYS[2])
if many > tonumber(ARGV[1]) then
  return redis.error_reply('ERR ' .. text(many) .. ' fields in ' .. KEYS[2] .. ': none of them is read')
end
local out = {}
for _, limit in ipairs(redis.call('HKEYS', KEYS[2])) do
  local ends, order, keep, value
  if redis.call('HSTRLEN', KEYS[2], limit) <= tonumber(ARGV[2]) and #limit <= 256 then
    ends, order, keep, value = read(limit)
  end
  if keep and keep <= now then
    redis.call('HDEL', KEYS[2], limit)
  else
    out[#out+1] = string.sub(limit, 1, 256)
    out[#out+1] = keep and text(math.max(0, math.min(ends - now, 9007199254740000))) or ''
    out[#out+1] = keep and text(keep - now) or ''
    out[#out+1] = keep and text(order) or ''
    out[#out+1] = value or ''
  end
end
return out
`)

// reloadScript asks all to load their files and answers the last change and how
// many times that was asked for. ARGV: channel, text.
var reloadScript = script(luaNow + luaTell + `
local n = redis.call('HINCRBY', KEYS[1], 'reload', 1)
redis.call('HSET', KEYS[1], 'asked', ARGV[2])
return {tell(), text(n)}
`)

// script is a constant that EVALSHA names.
func script(src string) *redis.Script { return redis.NewScript(src) }

// errNonsense is an answer that no Redis would give us.
var errNonsense = errors.New("redis: an answer that makes no sense")

// call runs a script, for as long as a call may take.
func (f *Fleet) call(ctx context.Context, s *redis.Script, keys []string, args ...any) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	return run(ctx, f.o.Client, s, keys, args...)
}

// run runs a script. All of them answer a list of texts.
func run(ctx context.Context, c redis.Scripter, s *redis.Script, keys []string, args ...any) (answer []string, err error) {
	defer func() {
		// The client was written for servers that mean well.
		if r := recover(); r != nil {
			answer, err = nil, fmt.Errorf("%w: reading it panicked", errNonsense)
		}
	}()
	return s.Run(ctx, c, keys, args...).StringSlice()
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// milliseconds reads a time that is left: more than none, and no longer than most.
func milliseconds(s string, most time.Duration) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > most.Milliseconds() {
		return 0, errNonsense
	}
	return time.Duration(n) * time.Millisecond, nil
}
