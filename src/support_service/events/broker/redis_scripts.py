"""Lua scripts of the Redis broker; each runs atomically in Redis."""

# One script call for any number of events: the client encodes one command, and the server appends all or none.
PUBLISH = """
if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[2]) or '0') then
    return redis.error_reply('FENCED ' .. redis.call('GET', KEYS[2]))
end
if ARGV[3] == '0' and redis.call('XLEN', KEYS[1]) + #ARGV - 3 > tonumber(ARGV[2]) then
    return redis.error_reply('FULL')
end
if ARGV[1] ~= '0' then redis.call('SET', KEYS[2], ARGV[1]) end
for i = 4, #ARGV do
    if ARGV[3] == '0' then
        redis.call('XADD', KEYS[1], '*', 'event', ARGV[i])
    else
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[i])
    end
end
return #ARGV - 3
"""
DEAD_LETTER = """
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*',
    'event', ARGV[3], 'reason', ARGV[4], 'tries', ARGV[5], 'at', ARGV[6])
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""
REPLAY = """
local found = 0
for i = 1, #ARGV do
    local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
    if entry then
        redis.call('XADD', KEYS[1], '*', unpack(entry[2], 1, 2))
        redis.call('XDEL', KEYS[2], ARGV[i])
        found = found + 1
    end
end
return found
"""
# One script, because a consumer that reads between the check and its deletion would lose its new deliveries.
FORGET_CONSUMERS = """
for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local has = {}
    for i = 1, #each, 2 do has[each[i]] = each[i + 1] end
    if has.pending == 0 and has.idle >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], has.name)
    end
end
"""
