// Devices that speak through MQTT.js, one operating-system process each.
//
// In: --port --prefix --names --kind [--qos --every]; out: one JSON line per device, {"device", "pid"}, then they
// publish until they are ended. Kinds and signals are those of paho_devices.py.
import { fork } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string' },
    prefix: { type: 'string' },
    names: { type: 'string' },
    kind: { type: 'string' },
    qos: { type: 'string', default: '0' },
    every: { type: 'string', default: '0.5' },
    keepalive: { type: 'string', default: '5' },
    device: { type: 'string' },
  },
})

if (options.device === undefined) {
  for (const name of options.names.split(',')) {
    const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--device', name])
    console.log(JSON.stringify({ device: name, pid: child.pid }))
  }
  // The parent lives as long as the test holds its standard input; its devices end with it.
  process.stdin.resume()
  process.stdin.on('end', () => process.exit(0))
} else {
  // MQTT.js is where the test setup installed it, not beside this file.
  const modules = process.env.AKRI_MQTT_TEST_NODE_MODULES ?? path.resolve('node_modules')
  const mqtt = createRequire(path.join(modules, 'any.js'))('mqtt')
  const status = `${options.prefix}/${options.device}/status`
  const withWill = options.kind === 'will'
  const client = mqtt.connect({
    host: options.host,
    port: Number(options.port),
    protocol: 'mqtt',
    protocolVersion: 5,
    clientId: `dev-${options.prefix}-${options.device}`,
    keepalive: Number(options.keepalive),
    reconnectPeriod: 1000,
    will: withWill ? { topic: status, payload: 'offline', qos: 1, retain: true } : undefined,
  })
  client.on('error', () => {})
  client.on('connect', () => {
    if (withWill) client.publish(status, 'online', { qos: 1, retain: true })
  })
  let silent = false
  let count = 0
  process.on('SIGUSR2', () => { silent = false })
  process.on('SIGTERM', () => {
    if (withWill) client.publish(status, 'offline', { qos: 1, retain: true }, () => client.end(false, () => process.exit(0)))
    else client.end(false, () => process.exit(0))
  })
  process.on('SIGHUP', () => { silent = true })
  process.on('disconnect', () => process.exit(0))
  setInterval(() => {
    if (silent || !client.connected) return
    count += 1
    client.publish(`${options.prefix}/${options.device}/data`, JSON.stringify({ n: count, temperature: 20 + (count % 10) }), { qos: Number(options.qos) })
  }, Number(options.every) * 1000)
}
