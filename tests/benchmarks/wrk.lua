-- Sends the requests of a file in turn, for ever; says at the end, as one line of JSON, what came back.
-- Arguments: the file, in which each request ends with its empty line; a connection's mean pause between an answer and
-- its next request in milliseconds, 0 for none.

local requests, turn = {}, 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for request in file:read("*a"):gmatch("(.-\r\n\r\n)") do
    requests[#requests + 1] = request
  end
  file:close()
  local pause = tonumber(arguments[2])
  if pause > 0 then
    function delay()
      return math.random() * 2 * pause
    end
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"responses": %d, "microseconds": %d, "p50": %d, "p99": %d, "p999": %d, "not_ok": %d, "unanswered": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
