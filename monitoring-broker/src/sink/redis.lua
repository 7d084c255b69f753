-- KEYS: for each message the hashes of values and of their order; then the stream, if there is one.
-- ARGV: channel, most entries of the stream (0: any number), then topic, cursor, order, JSON of each message.
-- The order is time (20 digits), sequence (20 digits), store.
local count = (#ARGV - 2) / 4
local stream = KEYS[count * 2 + 1]

local function is_older(order, before)
    if order:sub(41) == before:sub(41) then
        return order:sub(21, 40) < before:sub(21, 40)
    end
    return order:sub(1, 20) < before:sub(1, 20)
end

for index = 1, count do
    local values, orders = KEYS[index * 2 - 1], KEYS[index * 2]
    local at = index * 4 - 1
    local topic, cursor, order, message = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local before = redis.call('HGET', orders, topic)
    if not before or not is_older(order, before) then
        redis.call('HSET', orders, topic, order)
        redis.call('HSET', values, topic, message)
    end
    redis.call('PUBLISH', ARGV[1], message)
    if stream then
        if ARGV[2] == '0' then
            redis.call('XADD', stream, '*', 'cursor', cursor, 'message', message)
        else
            redis.call('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', 'cursor', cursor, 'message', message)
        end
    end
end
return count
