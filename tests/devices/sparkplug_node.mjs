// An Edge Node with one device, run by Eclipse Tahu's own client.
//
// In: --port, --group, --node, --device; on standard input a word a line: data (of both), birth and death (of the
// device). Out: a line once the births are written. It is born again whenever it is asked. SIGKILL is a crash.
import { createRequire } from 'node:module'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: { port: { type: 'string' }, group: { type: 'string' }, node: { type: 'string' }, device: { type: 'string' } },
})
// The packages are where the test setup installed them, not beside this file.
const modules = process.env.AKRI_MQTT_TEST_NODE_MODULES ?? path.resolve('node_modules')
const require = createRequire(path.join(modules, 'any.js'))
const { newClient } = require('sparkplug-client')

const client = newClient({
  serverUrl: `mqtt://127.0.0.1:${options.port}`,
  username: '',
  password: '',
  groupId: options.group,
  edgeNode: options.node,
  clientId: `${options.group}-${options.node}`,
  version: 'spBv1.0',
})
let present = true
let value = 20
const nodeMetrics = () => [{ name: 'uptime', alias: 1, type: 'Int64', value }]
const deviceMetrics = () => [
  {
    name: 'pressure',
    alias: 2,
    type: 'Double',
    value,
    properties: { engUnit: { type: 'String', value: 'bar' } },
  },
]
const birth = () => client.publishDeviceBirth(options.device, { timestamp: Date.now(), metrics: deviceMetrics() })
const births = () => {
  const rebirth = { name: 'Node Control/Rebirth', type: 'Boolean', value: false }
  client.publishNodeBirth({ timestamp: Date.now(), metrics: [rebirth, ...nodeMetrics()] })
  if (present) birth()
  console.log('born')
}
client.on('birth', births)
client.on('ncmd', ({ metrics }) => {
  if (metrics.some(({ name, value }) => name === 'Node Control/Rebirth' && value === true)) births()
})
// Data has aliases only.
const nameless = (metrics) => metrics.map(({ alias, type, value }) => ({ alias, type, value }))
for await (const word of createInterface({ input: process.stdin })) {
  value += 1
  const timestamp = Date.now()
  if (word === 'data') {
    client.publishNodeData({ timestamp, metrics: nameless(nodeMetrics()) })
    client.publishDeviceData(options.device, { timestamp, metrics: nameless(deviceMetrics()) })
  } else if (word === 'birth') {
    present = true
    birth()
  } else if (word === 'death') {
    present = false
    client.publishDeviceDeath(options.device, { timestamp, metrics: [] })
  }
}
process.exit(0)
