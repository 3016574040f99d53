"""What Redis does in one go for a journal; every command is of version 7.0.

A session is a hash (``session``, ``epoch``, ``length``) and a list of events; both end together.
"""

from __future__ import annotations

KEPT, TAKEN, LOST = 0, 1, 2
"""What ``APPEND`` answers for each of its records."""

# KEYS: session, events, idempotency name or nothing. ARGV: milliseconds, id, epoch, session.
# Answers the id of the session that the idempotency name stands for.
CREATE = """
local name = KEYS[3]
if name then
    local known = redis.call('GET', name)
    if known and known ~= ARGV[2] and redis.call('EXISTS', ARGV[5] .. known) == 1 then
        return known
    end
    redis.call('SET', name, ARGV[2], 'PX', ARGV[1])
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'session', ARGV[4], 'epoch', ARGV[3], 'length', 0, 'name', name or '')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return ARGV[2]
"""

# KEYS: a session and its events, for each record. ARGV: milliseconds, then for each record its epoch, the length before
# it, the length after it, and the event.
APPEND = """
local outcomes = {}
for record = 1, #KEYS / 2 do
    local session, events, at = KEYS[2 * record - 1], KEYS[2 * record], 4 * record - 2
    local known = redis.call('HMGET', session, 'epoch', 'length', 'name')
    if not known[1] then
        outcomes[record] = 2
    elseif known[1] ~= ARGV[at] then
        outcomes[record] = 1
    elseif redis.call('LINDEX', events, -1) == ARGV[at + 3] and known[2] == ARGV[at + 2] then
        outcomes[record] = 0
    elseif known[2] ~= ARGV[at + 1] then
        outcomes[record] = 1
    else
        redis.call('RPUSH', events, ARGV[at + 3])
        redis.call('HSET', session, 'length', ARGV[at + 2])
        redis.call('PEXPIRE', session, ARGV[1])
        redis.call('PEXPIRE', events, ARGV[1])
        if known[3] ~= '' then
            redis.call('PEXPIRE', known[3], ARGV[1])
        end
        outcomes[record] = 0
    end
end
return outcomes
"""

# KEYS: session, events. Answers the session, its epoch and all events, or nothing.
READ = """
local known = redis.call('HMGET', KEYS[1], 'session', 'epoch')
if not known[1] then
    return nil
end
return {known[1], known[2], redis.call('LRANGE', KEYS[2], 0, -1)}
"""

# KEYS: session, events. ARGV: milliseconds, the epoch that it must have, or nothing. Answers as READ.
TAKE = """
local known = redis.call('HMGET', KEYS[1], 'session', 'epoch')
if not known[1] or (ARGV[2] ~= '' and known[2] ~= ARGV[2]) then
    return nil
end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return {known[1], tostring(epoch), redis.call('LRANGE', KEYS[2], 0, -1)}
"""
