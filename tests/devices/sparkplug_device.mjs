// A Sparkplug B device that speaks once, written by Eclipse Tahu's own library.
//
// In: --port, --topic, and one metric a line on standard input, as JSON; out: exit code 0 once it was sent.
import { createRequire } from 'node:module'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: { port: { type: 'string' }, topic: { type: 'string' } },
})
// The packages are where the test setup installed them, not beside this file.
const modules = process.env.AKRI_MQTT_TEST_NODE_MODULES ?? path.resolve('node_modules')
const require = createRequire(path.join(modules, 'any.js'))
const mqtt = require('mqtt')
const sparkplug = require('sparkplug-payload').get('spBv1.0')

const metrics = []
for await (const line of createInterface({ input: process.stdin })) metrics.push(JSON.parse(line))
const payload = sparkplug.encodePayload({ timestamp: Date.now(), seq: 0, metrics })
const client = await mqtt.connectAsync({ host: '127.0.0.1', port: Number(options.port), protocol: 'mqtt' })
await client.publishAsync(options.topic, Buffer.from(payload), { qos: 1 })
await client.endAsync()
