-- wrk's part of bench/load.py: posts each line of a file once and prints what was measured as a line of JSON.
-- Arguments: path to post to, file of request bodies.

local path, file, lines

function init(args)
    path, file = args[1], args[2]
    lines = io.lines(file)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end

function request()
    local body = lines()
    if not body then -- from the start again; where that is wrong, the rows stored are fewer than the answers
        lines = io.lines(file)
        body = lines()
    end
    return wrk.format(nil, path, nil, body)
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"answers": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
        summary.requests - errors.status, summary.duration / 1e6, latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
