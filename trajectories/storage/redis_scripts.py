"""Lua scripts that Redis runs atomically, on the keys of one record and of its tenant's feed.

They use commands of Redis 6.2.
"""

# Numbers stay strings: otherwise Lua 5.1 prints 1.7e+15. Below 2**53 they compare exactly as
# doubles.
MERGE = """
local record, sequence, feed, positions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, stamp, digest, revision, recorded_at, body, ttl_s, settled, outcomes =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local known = redis.call('HMGET', record, 'stamp', 'digest', 'revision', 'recorded_at_us', 'withdrawn', 'deleted')
local moved = false
if known[6] then return {known[1], '', '0', '0'} end
-- Only the archive writes outcomes, and its list only grows.
local added = #outcomes > redis.call('HSTRLEN', record, 'outcomes')
if known[1] then
  if known[4] then
    if tonumber(known[4]) < tonumber(recorded_at) then recorded_at = known[4] else moved = known[4] ~= recorded_at end
  end
  local older = tonumber(stamp) < tonumber(known[1]) or (stamp == known[1] and digest < known[2])
  -- The archive has the last word: what it took after all, a replay say, is not withdrawn any more.
  if known[5] and (older or (stamp == known[1] and settled == '0')) then return {known[1], known[2], '0', '0'} end
  if older then
    if not moved and not added then return {known[1], known[2], known[3], known[4]} end
    stamp, digest, revision, body = known[1], known[2], known[3], false
  elseif digest == known[2] and not known[5] then
    if settled == '0' then revision = known[3] end
    if stamp == known[1] and revision == known[3] and not moved and not added then
      return {stamp, digest, revision, recorded_at}
    end
    body = false
  end
end
redis.call('HSET', record, 'stamp', stamp, 'digest', digest, 'revision', revision, 'recorded_at_us', recorded_at)
if body then
  redis.call('HSET', record, 'body', body)
  redis.call('HDEL', record, 'withdrawn')
end
if added then redis.call('HSET', record, 'outcomes', outcomes) end
redis.call('EXPIREAT', record, string.format('%.0f', math.floor(tonumber(revision) / 1000000) + tonumber(ttl_s)))
redis.call('ZADD', feed, redis.call('INCR', sequence), id)
redis.call('ZADD', positions, recorded_at, id)
return {stamp, digest, revision, recorded_at}
"""

WITHDRAW = """
local record, sequence, feed, positions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, stamp, digest, ttl_s, older = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('HEXISTS', record, 'deleted') == 1 then return 0 end
local known = redis.call('HGET', record, 'stamp')
if known and tonumber(known) > tonumber(stamp) then return 0 end
redis.call('DEL', record)
redis.call('HSET', record, 'stamp', stamp, 'digest', digest, 'withdrawn', '1')
redis.call('EXPIREAT', record, string.format('%.0f', math.floor(tonumber(stamp) / 1000000) + tonumber(ttl_s)))
redis.call('ZADD', feed, redis.call('INCR', sequence), id)
if older == '0' then redis.call('ZREM', positions, id) end
return 1
"""

# One sorted set by a time that only grows, so that a reader that remembers the highest score misses
# no member, whatever the clocks of the writers are.
CHANGE_KEY = """
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local at = math.max(tonumber(top[2] or '0') + 1, tonumber(ARGV[2]))
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""

DELETE = """
local record, sequence, feed, positions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, stamp, ttl_s = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HEXISTS', record, 'deleted') == 1 then return 0 end
local gone = redis.call('DEL', record)
redis.call('HSET', record, 'stamp', stamp, 'deleted', '1')
redis.call('EXPIREAT', record, string.format('%.0f', math.floor(tonumber(stamp) / 1000000) + tonumber(ttl_s)))
redis.call('ZADD', feed, redis.call('INCR', sequence), id)
redis.call('ZREM', positions, id)
return gone
"""

TRIM = """
for at = 1, 2 do
  local set, floor, keep = KEYS[at], KEYS[at + 2], tonumber(ARGV[1])
  local beyond = redis.call('ZCARD', set) - keep
  if beyond > 0 then
    local last = redis.call('ZRANGE', set, beyond - 1, beyond - 1, 'WITHSCORES')
    if tonumber(last[2]) > tonumber(redis.call('GET', floor) or '0') then redis.call('SET', floor, last[2]) end
    redis.call('ZREMRANGEBYRANK', set, 0, beyond - 1)
  end
end
return 1
"""
