"""(pure) Which Lua script does the operator run in Redis? One, which writes nothing."""

from __future__ import annotations

import hashlib
from typing import Final

from celeriac_operator.autoscaling.brokers import layout

_READ = """
-- The figures of one pool at one moment: a message that moves between the keys is counted once, never missed.
--
-- KEYS  layout, workers, then for each queue: held, its lists
-- ARGV  the layout record by which the keys were made ('': none is known); lists of each queue
-- ->    {1, layout record}: it is another one, ask again with other keys;
--       {2}: the layout record or the workers' reports are too large to be the library's; or
--       {0, server's time in ms, and for each queue: held, ready, and for each list that is not empty: when its oldest
--           message was published ('' where it does not say), its ETA ('': none), as 'published|eta';
--           all of it in one text, separated by blanks,
--        what each worker says that is not overdue, as JSON}
-- A change of any list is announced to a connection that tracks.
-- Anybody who may write to this Redis chooses the record, the reports and the messages, so each part of the reply is
-- bounded here: one pool's part must not cost the other pools on this Redis their figures.
local record = redis.call('GET', KEYS[1])
if record and #record > RECORD_BYTES then return {2} end
if record and record ~= ARGV[1] then return {1, record} end
if redis.call('HLEN', KEYS[2]) > REPORTS then return {2} end
local clock, lists = redis.call('TIME'), tonumber(ARGV[2])
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local said = {string.format('%.0f', now)}
for at = 3, #KEYS, lists + 1 do
  said[#said + 1] = redis.call('HLEN', KEYS[at])
  local ready = #said + 1
  said[ready] = 0
  if redis.call('EXISTS', unpack(KEYS, at + 1, at + lists)) > 0 then
    for list = at + 1, at + lists do
      local length = redis.call('LLEN', KEYS[list])
      if length > 0 then
        said[ready] = said[ready] + length
        -- By pattern: the body is a JSON string, in which a quote is never bare, and a large message costs no decoding.
        local oldest = redis.call('LINDEX', KEYS[list], -1)
        local published = string.match(oldest, '"celeriac_published": ?([%d.]+)') or ''
        local eta = string.match(oldest, '"eta": ?"([^" |]*)"') or ''
        if #published > TIME_BYTES then published = '' end
        if #eta > TIME_BYTES then eta = '' end
        said[#said + 1] = published .. '|' .. eta
      end
    end
  end
end
local out = {0, table.concat(said, ' ')}
for _, entry in ipairs(redis.call('HVALS', KEYS[2])) do
  if #entry <= REPORT_BYTES then
    local due, rest = string.match(entry, '^(%d+):%d+:(.*)$')
    if due and tonumber(due) > now then out[#out + 1] = rest end
  end
end
return out
"""

MAX_REPORTS: Final = 10_000
"""Most workers of a pool that report; a pool has at most as many replicas."""

MAX_REPLY: Final = 4 * 2**20
"""Largest reply to one call, in bytes: what this many reports and 64 queues with 64 priorities can amount to."""

READ: Final = (
    _READ.replace("RECORD_BYTES", str(layout.RECORD.size))
    .replace("REPORT_BYTES", str(layout.REPORT.size + 64))
    .replace("REPORTS", str(MAX_REPORTS))
    .replace("TIME_BYTES", str(layout.MAX_TIME_TEXT))
)

READ_SHA: Final = hashlib.sha1(READ.encode(), usedforsecurity=False).hexdigest()
"""The name by which Redis knows the loaded script."""
