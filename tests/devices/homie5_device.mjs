// A root device of Homie 5 with one child on its connection, run by node-homie.
//
// In: --port, --root, --child; on standard input a word a line: data, remove and add (of the child), close. Out: a line
// once both are ready. SIGKILL is a crash, of which only the root has a Last Will.
import { createRequire } from 'node:module'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: { port: { type: 'string' }, root: { type: 'string' }, child: { type: 'string' } },
})
// The packages are where the test setup installed them, not beside this file.
const modules = process.env.AKRI_MQTT_TEST_NODE_MODULES ?? path.resolve('node_modules')
const require = createRequire(path.join(modules, 'any.js'))
const { HomieDevice, HomieNode, HomieProperty } = require('node-homie')
const { RxMqtt } = require('node-homie/mqtt')
const { lastValueFrom, filter, firstValueFrom } = require('rxjs')

const ready = (device) => firstValueFrom(device.attributes$.pipe(filter(({ state }) => state === 'ready')))
const server = { url: `mqtt://127.0.0.1:${options.port}`, topicRoot: 'homie' }
const will = { topic: `homie/5/${options.root}/$state`, payload: 'lost', qos: 2, retain: true }
const connection = new RxMqtt({ ...server, will })
await connection.onInit()
const root = new HomieDevice({ id: options.root, name: 'Root', children: [options.child] }, connection)
await root.onInit()
await ready(root)

let child, power
const add = async () => {
  child = new HomieDevice({ id: options.child, name: 'Child', root: options.root, parent: options.root }, connection)
  const node = child.add(new HomieNode(child, { id: 'meter', name: 'Meter' }))
  power = node.add(new HomieProperty(node, { id: 'power', name: 'Power', datatype: 'float', retained: true }))
  await child.onInit()
  await ready(child)
}
await add()
console.log('born')
let value = 10
for await (const word of createInterface({ input: process.stdin })) {
  value += 1
  if (word === 'data') {
    power.value = String(value)
  } else if (word === 'remove') {
    // As long as it runs, it states anew what somebody else has deleted.
    await child.onDestroy()
    await lastValueFrom(child.wipe$())
  } else if (word === 'add') {
    await add()
  } else if (word === 'close') {
    await root.onDestroy()
  }
}
