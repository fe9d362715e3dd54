"""The Lua scripts of the policies: keys, arguments, and the meaning of each return value.

They keep the rules of all scripts: they use the server's time, never touch another call's value, and never decode
messages. In addition, each script may run twice: a client whose connection broke before the reply arrived asks again,
and the second run must not publish anything again. If a message is pushed to a list whose name was recorded earlier,
that list is not among the keys; this works because the broker is one server.
"""

from __future__ import annotations

from typing import Final

from celeriac.store.keys import BURST_SECONDS, COVERED_SECONDS
from celeriac.store.script import Script

FORGET: Final = Script(
    "forget",
    """
-- Delete a key if it holds this value.
--
-- KEYS  key
-- ARGV  value
-- ->    1, or 0 when it holds something else or nothing
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)

RENEW: Final = Script(
    "renew-claim",
    """
-- Let a key expire in this many milliseconds from now, if it holds this value and would expire earlier.
--
-- KEYS  key
-- ARGV  value; ms
-- ->    1, or 0 when it holds something else or nothing
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
""",
)

HOLD: Final = Script(
    "hold",
    """
-- Keep a claim for a call that is published again under its own id (a retry, a call that was put back).
--
-- KEYS  claim
-- ARGV  new value; ms; then the values that mean this call
-- ->    1, or 0 when another call has the claim
local value = redis.call('GET', KEYS[1])
local is_own = not value
for i = 3, #ARGV do is_own = is_own or value == ARGV[i] end
if not is_own then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""",
)

_REVOKED: Final = """
-- Whether a worker was told that a call is revoked. `prefix` is the prefix of such keys; '': do not check.
local function is_revoked(prefix, id) return prefix ~= '' and redis.call('EXISTS', prefix .. id) == 1 end
"""

LOOK: Final = Script(
    "look",
    f"""
{_REVOKED}
-- Read who has a claim, and extend the claim if the policy says so.
--
-- KEYS  claim
-- ARGV  ms that the claim lasts from now on (0: do not change it); prefix of the keys of revoked calls
-- ->    the value of the claim; or nothing, if no call has it, or if the call that has it waits and is revoked
local value = redis.call('GET', KEYS[1])
if not value then return false end
if string.sub(value, 1, 2) == 'q:' and is_revoked(ARGV[2], string.sub(value, 3)) then return false end
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return value
""",
)

CLAIM: Final = Script(
    "claim",
    f"""
{_REVOKED}
-- Publish a call if no other call has the claim. Claim and message are written in one step, so that no crash can leave
-- one without the other.
--
-- KEYS  claim; queued; then the list of each message
-- ARGV  value of the claim; ms; id to record as queued ('': record none); prefix of the keys of revoked calls; then
--       the message for each list
-- ->    the value of the claim; it is this call's if the call was published now (or before)
local value = redis.call('GET', KEYS[1])
if value and not (string.sub(value, 1, 2) == 'q:' and is_revoked(ARGV[4], string.sub(value, 3))) then return value end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('SADD', KEYS[2], ARGV[3])
  redis.call('EXPIRE', KEYS[2], {COVERED_SECONDS})
end
for i = 3, #KEYS do redis.call('LPUSH', KEYS[i], ARGV[i + 2]) end
return ARGV[1]
""",
)

UNIQUE_START: Final = Script(
    "unique-start",
    f"""
{_REVOKED}
-- May a unique call run, now that a worker has its message?
--
-- Timeline of a message that waits longer than its claim stands:
--   call A: claim q:A, queued A ... the claim expires ... call B: claim q:B, queued A and B
--   whichever starts first covers the other, which was called before that start and does not run
--
-- KEYS  claim, covered, queued
-- ARGV  id; ms that the claim of a run lasts without renewal (0: the claim ends now); prefix of the keys of revoked
--       calls
-- ->    0: run; -1: another run has done its work; -2: it is revoked; else ms that the claim of another run lasts
if redis.call('SREM', KEYS[2], ARGV[1]) == 1 then return -1 end
local value = redis.call('GET', KEYS[1])
local phase, id = string.sub(value or '', 1, 2), string.sub(value or '', 3)
if id ~= ARGV[1] then
  if is_revoked(ARGV[3], ARGV[1]) then
    redis.call('SREM', KEYS[3], ARGV[1])
    return -2
  end
  if phase == 'r:' then return math.max(redis.call('PTTL', KEYS[1]), 1) end
  if phase == 'q:' then redis.call('SADD', KEYS[2], id) end
end
redis.call('SREM', KEYS[3], ARGV[1])
for _, other in ipairs(redis.call('SMEMBERS', KEYS[3])) do redis.call('SADD', KEYS[2], other) end
redis.call('DEL', KEYS[3])
redis.call('EXPIRE', KEYS[2], {COVERED_SECONDS})
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], 'r:' .. ARGV[1], 'PX', ARGV[2])
end
return 0
""",
)

UNIQUE_ABANDON: Final = Script(
    "unique-abandon",
    """
-- A worker has dropped the message of a unique call.
--
-- KEYS  claim, covered, queued
-- ARGV  id
-- ->    1 when this call had the claim, else 0
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
local value = redis.call('GET', KEYS[1])
if value ~= 'q:' .. ARGV[1] and value ~= 'r:' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)

DEBOUNCE: Final = Script(
    "debounce",
    f"""
{_REVOKED}
-- Record a call of a burst, and make sure that a waker has been sent.
-- A waker is a message with an ETA. When a worker takes it, the burst's newest message is published if the burst is
-- due. `look` is the time by which the waker should have been taken; a call that finds it overdue sends another one.
--
-- KEYS  burst, list of the waker
-- ARGV  id of the burst as the caller knows it; quiet ms; longest ms (0: none); list of the message; the message;
--       the waker's token; the waker ('': not made yet); ms that a waker may be late; the call's own id; prefix of the
--       keys of revoked calls
-- ->    1: recorded; 'waker': make a waker and call again; 'burst <id>': the burst has another id, call again with it
NOW
local id = redis.call('HGET', KEYS[1], 'id')
if id and is_revoked(ARGV[10], id) then
  -- A worker drops its message and stores that it is revoked, as that of any other revoked call.
  redis.call('LPUSH', redis.call('HGET', KEYS[1], 'list'), redis.call('HGET', KEYS[1], 'message'))
  redis.call('DEL', KEYS[1])
  id = false
end
-- If the burst has fired since the caller read its id, it is over, and the call begins a new one.
local expected = id or ARGV[9]
if expected ~= ARGV[1] then return 'burst ' .. expected end
local first = id and tonumber(redis.call('HGET', KEYS[1], 'first')) or now
local due = now + tonumber(ARGV[2])
if ARGV[3] ~= '0' then due = math.min(due, first + tonumber(ARGV[3])) end
local look = id and tonumber(redis.call('HGET', KEYS[1], 'look')) or 0
if look < now then
  if ARGV[7] == '' then return 'waker' end
  redis.call('LPUSH', KEYS[2], ARGV[7])
  redis.call('HSET', KEYS[1], 'waker', ARGV[6], 'look', string.format('%.0f', due + tonumber(ARGV[8])))
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'first', string.format('%.0f', first), 'due', string.format('%.0f', due),
  'list', ARGV[4], 'message', ARGV[5])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', due - now + {BURST_SECONDS * 1000}))
return 1
""",
)

FIRE: Final = Script(
    "fire",
    """
-- A worker has taken a waker: publish the burst's newest message if it is due, at the head of its queue, because it has
-- waited already.
--
-- KEYS  burst
-- ARGV  the waker's token; ms that a waker may be late
-- ->    0: published; -1: this waker has no burst, or no longer one; else ms until the burst is due
NOW
local burst = redis.call('HMGET', KEYS[1], 'waker', 'due', 'list', 'message')
if burst[1] ~= ARGV[1] then return -1 end
local due = tonumber(burst[2])
if due > now then
  redis.call('HSET', KEYS[1], 'look', string.format('%.0f', due + tonumber(ARGV[2])))
  return due - now
end
redis.call('RPUSH', burst[3], burst[4])
redis.call('DEL', KEYS[1])
return 0
""",
)

COALESCE: Final = Script(
    "coalesce",
    f"""
{_REVOKED}
-- Record a call as the one that waits, and make sure that a message leads to it.
-- `ticket` is the mark of that message: the call's own if nothing runs, else that of a guard. A guard is a message with
-- an ETA for the case that the run ends without publishing the call (its worker was killed). `look` is the time after
-- which that message counts as lost.
--
-- KEYS  waiting, running, list of the message and the guard
-- ARGV  id of the waiting call as the caller knows it; its mark; message; ms until it should be taken;
--       the guard's mark; the guard ('': not made yet); ms until the guard should be taken; the call's own id; ms
--       after which it expires (0: never); prefix of the keys of revoked calls
-- ->    1: recorded; 'guard': make a guard and call again; 'call <id>': another call waits, call again with its id
NOW
local id = redis.call('HGET', KEYS[1], 'id')
local ends = tonumber(redis.call('HGET', KEYS[1], 'ends') or 0)
if id and (is_revoked(ARGV[10], id) or (ends > 0 and ends <= now)) then
  redis.call('DEL', KEYS[1])
  id = false
end
-- If the waiting call has started since the caller read its id, this call waits under its own id.
local expected = id or ARGV[8]
if expected ~= ARGV[1] then return 'call ' .. expected end
local look = id and tonumber(redis.call('HGET', KEYS[1], 'look')) or 0
if look < now then
  local ticket, message, patience = ARGV[2], ARGV[3], ARGV[4]
  if redis.call('EXISTS', KEYS[2]) == 1 then
    if ARGV[6] == '' then return 'guard' end
    ticket, message, patience = ARGV[5], ARGV[6], ARGV[7]
  end
  redis.call('LPUSH', KEYS[3], message)
  redis.call('HSET', KEYS[1], 'ticket', ticket, 'look', string.format('%.0f', now + tonumber(patience)))
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'mark', ARGV[2], 'list', KEYS[3], 'message', ARGV[3], 'patience', ARGV[4],
  'ends', ARGV[9] == '0' and '0' or string.format('%.0f', now + tonumber(ARGV[9])))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(ARGV[4]) + {BURST_SECONDS * 1000}))
return 1
""",
)

_TICKETS: Final = """
local waiting = redis.call('HMGET', KEYS[1], 'ticket', 'mark', 'list', 'message', 'patience')
local function is_guard(mark) return mark and string.sub(mark, 1, 6) == 'guard:' end
-- The newest message becomes its own ticket.
local function publish(push)
  redis.call(push, waiting[3], waiting[4])
  local look = string.format('%.0f', now + tonumber(waiting[5]))
  redis.call('HSET', KEYS[1], 'ticket', waiting[2], 'look', look)
end
"""

COALESCE_START: Final = Script(
    "coalesce-start",
    f"""
-- May a coalesced call run, now that a worker has its message?
--
-- A run is known by the mark of its message and its id, so that another message with the same id is another run.
--
-- KEYS  waiting, running
-- ARGV  mark and id of the message, with a space between; mark; ms that a run lasts without renewal
-- ->    0: run; -1: this message has nothing to do; -2: a newer message was published in its place;
--       else 'wait <ms>': another call runs, publish this message again; 'guard <ms>': publish it again as a guard
NOW
{_TICKETS}
local is_ticket = waiting[1] == ARGV[2]
if is_guard(ARGV[2]) and not is_ticket then return -1 end
local runs = redis.call('GET', KEYS[2])
if runs and runs ~= ARGV[1] then
  local left = math.max(redis.call('PTTL', KEYS[2]), 1)
  if not is_ticket then return 'wait ' .. string.format('%.0f', left) end
  local look = string.format('%.0f', now + left + tonumber(waiting[5]))
  redis.call('HSET', KEYS[1], 'look', look, 'ticket', 'guard:' .. string.match(ARGV[2], ':(.*)$'))
  return 'guard ' .. string.format('%.0f', left)
end
if is_ticket and waiting[2] ~= ARGV[2] then
  publish('RPUSH')
  return -2
end
if is_ticket then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 0
""",
)

COALESCE_END: Final = Script(
    "coalesce-end",
    f"""
-- A coalesced run has ended: publish the call that waits for it.
--
-- KEYS  waiting, running
-- ARGV  mark and id of the run
-- ->    1 when a call was published, 0 when none waited or the recorded run is not this one
NOW
{_TICKETS}
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if not is_guard(waiting[1]) then return 0 end
publish('LPUSH')
return 1
""",
)

COALESCE_ABANDON: Final = Script(
    "coalesce-abandon",
    f"""
-- A worker has dropped the message of a coalesced call as revoked or expired, or has ended its run.
--
-- An expired message may lead to a newer one, which has not expired: that one is published in its place. Revoking
-- covers all waiting calls, because they share one id.
--
-- KEYS  waiting, running
-- ARGV  mark and id of the message; mark; id; '1' when it has expired
-- ->    1 when a run was ended, or a call removed or published, else 0
NOW
{_TICKETS}
local ended = 0
if redis.call('GET', KEYS[2]) == ARGV[1] then
  ended = redis.call('DEL', KEYS[2])
  if is_guard(waiting[1]) then publish('LPUSH') end
end
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[3] then return ended end
if ARGV[4] == '1' and waiting[2] ~= ARGV[2] then
  if waiting[1] ~= ARGV[2] then return ended end
  publish('RPUSH')
  return 1
end
return redis.call('DEL', KEYS[1])
""",
)
