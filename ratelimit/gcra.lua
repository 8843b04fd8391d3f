-- What bucket.go counts, of several buckets in one step: all of them give, or none.
--
-- KEYS are the buckets. ARGV is the mode (take, ask, pace, back), the time in
-- seconds and microseconds ("" for the server's own), how long a key lives beyond
-- its use in milliseconds, the longest wait in seconds; then of each bucket its
-- events in a second, its burst, its rate as events/nanoseconds, and n.
--
-- A bucket is kept as "SPENT SECONDS MICROSECONDS EVENTS_A_SECOND BURST RATE".
--
-- The answer is -1 and what is then left in each bucket, below 0 for a debt; or
-- the number of the first that refuses, from 0, and what is left in that one.

local slack = 1e-6
local mode, margin, longest = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local sec, usec = tonumber(ARGV[2]), tonumber(ARGV[3])
if not sec then
	local time = redis.call('TIME')
	sec, usec = tonumber(time[1]), tonumber(time[2])
end

local function number(text)
	local x = tonumber(text)
	return x and x == x and math.abs(x) < 1e300 and x or nil
end

-- read reads what a key holds; nil is no bucket: nothing, or what somebody else
-- put there. An error is one of the server.
local function read(key)
	local text = redis.pcall('GET', key)
	if type(text) == 'table' then
		if text.err and not text.err:find('^WRONGTYPE') then
			return nil, text
		end
		return nil
	end
	if not text then
		return nil
	end
	local spent, s, us, ps, size, of = text:match('^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
	local b = {spent = number(spent), sec = number(s), usec = number(us), persecond = number(ps), burst = number(size), rate = of}
	if not (b.spent and b.sec and b.usec and b.persecond and b.burst and b.spent >= 0 and b.persecond > 0) then
		return nil
	end
	if b.spent > b.burst + longest * b.persecond * (1 + slack) + 1 then
		return nil -- more than can be owed
	end
	return b
end

-- load reads a bucket, or gives a full one: that is written over whatever is
-- there, or a limit would not hold as long as it is.
local function load(key, persecond, burst, rate)
	local b, wrong = read(key)
	if wrong then
		return nil, wrong
	end
	return b or {spent = 0, sec = sec, usec = usec, persecond = persecond, burst = burst, rate = rate}
end

-- settle takes off what came back since. A clock that was set back stands still
-- until it has caught up, or until the whole bucket would have come back.
local function settle(b)
	local since = (sec - b.sec) + (usec - b.usec) / 1e6
	if since < 0 and -since <= b.burst / b.persecond then
		return
	end
	b.spent = math.max(0, b.spent - math.max(0, since) * b.persecond)
	b.sec, b.usec = sec, usec
end

local function save(key, b)
	local life = math.min(1e12, math.ceil(b.spent / b.persecond * 1000) + margin)
	redis.call('SET', key, string.format('%.17g %.0f %.17g %.17g %.0f %s', b.spent, b.sec, b.usec, b.persecond, b.burst, b.rate), 'PX', string.format('%.0f', life))
end

local buckets, asked = {}, {}
for i, key in ipairs(KEYS) do
	local at = 2 + 4 * i
	local persecond, burst, rate, n = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
	local b = buckets[key]
	if not b then
		local wrong
		b, wrong = load(key, persecond, burst, rate)
		if wrong then
			return wrong
		end
		buckets[key] = b
	end
	if b.rate ~= rate or b.burst ~= burst then
		settle(b)
		b.spent = math.min(b.spent, burst)
		b.persecond, b.burst, b.rate = persecond, burst, rate
		save(key, b)
	end
	asked[i] = n
end
for _, b in pairs(buckets) do
	settle(b)
	b.taken = 0
end

local answer = {-1}
if mode == 'take' or mode == 'ask' then
	for i, key in ipairs(KEYS) do
		local b = buckets[key]
		local left = b.burst - b.spent - b.taken
		if left + slack < math.max(1, asked[i]) then
			return {i - 1, string.format('%.17g', left)}
		end
		b.taken = b.taken + asked[i]
		answer[i + 1] = string.format('%.17g', b.burst - b.spent - b.taken)
	end
	if mode == 'ask' then
		return answer
	end
	for key, b in pairs(buckets) do
		if b.taken > 0 then
			b.spent = b.spent + b.taken
			save(key, b)
		end
	end
	return answer
end

for i, key in ipairs(KEYS) do
	local b = buckets[key]
	if mode == 'pace' then
		b.spent = math.min(b.spent + asked[i], b.burst + longest * b.persecond)
	else
		b.spent = math.max(0, b.spent - asked[i])
	end
	if asked[i] > 0 then
		save(key, b)
	end
	answer[i + 1] = string.format('%.17g', b.burst - b.spent)
end
return answer
