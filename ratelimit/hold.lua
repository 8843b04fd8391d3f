-- Places in flight, of several keys in one step: one of each, or none.
--
-- A key is a sorted set of leases by the time they run out. ARGV is the mode
-- (hold, ask, renew), the time in seconds and microseconds ("" for the server's own)
-- and how long a lease is good for in seconds; then for hold and ask of each key how
-- many at most and the lease to add; for renew, of one key, the leases.
--
-- The answer is -1 and how many are then taken of each key; or the number of
-- the first that refuses, from 0, and how many are taken of that one.

local mode, lease = ARGV[1], tonumber(ARGV[4])
local sec, usec = tonumber(ARGV[2]), tonumber(ARGV[3])
if not sec then
	local time = redis.call('TIME')
	sec, usec = tonumber(time[1]), tonumber(time[2])
end
local now = sec + usec / 1e6
local ends = string.format('%.6f', now + lease)

local function keep(key)
	redis.call('PEXPIRE', key, string.format('%.0f', lease * 1000))
end

-- mend drops what is no set of leases: as long as it is there nothing would be
-- counted.
local function mend(key)
	local kind = redis.call('TYPE', key)['ok']
	if kind ~= 'zset' and kind ~= 'none' then
		redis.call('DEL', key)
	end
end

if mode == 'renew' then
	mend(KEYS[1])
	for i = 5, #ARGV do
		redis.call('ZADD', KEYS[1], ends, ARGV[i])
	end
	keep(KEYS[1])
	return {-1}
end

local taken, answer = {}, {-1}
for i, key in ipairs(KEYS) do
	if not taken[key] then
		mend(key)
		-- Leases that ran out, and those that a clock set back since would keep for ever.
		redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.6f', now))
		redis.call('ZREMRANGEBYSCORE', key, string.format('(%.6f', now + 2 * lease), '+inf')
		taken[key] = redis.call('ZCARD', key)
	end
	if taken[key] >= tonumber(ARGV[3 + 2 * i]) then
		return {i - 1, taken[key]}
	end
	taken[key] = taken[key] + 1
	answer[i + 1] = taken[key]
end
if mode == 'ask' then
	return answer
end
for i, key in ipairs(KEYS) do
	redis.call('ZADD', key, ends, ARGV[4 + 2 * i])
	keep(key)
end
return answer
