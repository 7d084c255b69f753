// What the tests of the dashboard need: a real Mosquitto, the programs, devices, and Chromium.
// In: AKRI_MQTT_TEST_BINARIES, AKRI_MQTT_TEST_NODE_MODULES, AKRI_MQTT_TEST_CHROMIUM. Everything ends with the test.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** The checkout. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
export const MODULES = path.resolve(process.env.AKRI_MQTT_TEST_NODE_MODULES ?? path.join(ROOT, 'target/tools/node/node_modules'))
const BINARIES = process.env.AKRI_MQTT_TEST_BINARIES ?? path.join(ROOT, 'target/debug')
const CHROMIUM = process.env.AKRI_MQTT_TEST_CHROMIUM ?? '/usr/bin/chromium'
const DEADLINE_MS = 30_000

const required = createRequire(path.join(MODULES, 'any.js'))
export const { chromium } = required('playwright-core')
const mqtt = required('mqtt')
export const axeSource = () => fs.readFileSync(required.resolve('axe-core/axe.min.js'), 'utf8')

/** Waits until a condition holds, and answers with what it gave. */
export async function until(what, condition, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline
  for (;;) {
    const result = await condition()
    if (result) return result
    assert.ok(Date.now() < end, `not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

const listens = (port) => new Promise((resolve) => {
  const socket = net.connect(port, '127.0.0.1', () => resolve(true) ?? socket.destroy())
  socket.on('error', () => resolve(false))
})

function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options })
  const ended = new Promise((resolve) => child.on('exit', resolve))
  child.lines = ''
  child.stderr.on('data', (text) => { child.lines += text })
  child.end = async (signal = 'SIGKILL') => {
    child.kill(signal)
    await ended
  }
  return child
}

/** A real Mosquitto, which can be killed and started again on its port. */
export async function mosquitto() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dashboard-mqtt-'))
  const port = await freePort()
  const config = path.join(directory, 'mosquitto.conf')
  fs.writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n`)
  const server = { port }
  server.start = async () => {
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }
    server.child = start('mosquitto', ['-c', config], { env })
    await until('Mosquitto listens', () => listens(port))
  }
  server.end = async () => {
    await server.child.end()
    fs.rmSync(directory, { recursive: true, force: true })
  }
  await server.start()
  return server
}

const configuration = (port) => `
apiVersion: akri.sh/v0
kind: Configuration
metadata: {name: plant}
spec:
  capacity: 1
  discoveryHandler:
    name: mqtt
    discoveryDetails: |
      servers: [{name: plant, urls: ['tcp://127.0.0.1:${port}']}]
      topics: ['plant/{device}/+']
      presence:
        availability: [{topic: 'plant/{device}/status'}]
        offlineDelay: 500ms
        offlineAfter: 10m
        reconnectGrace: 1s
`

/** `akri-mqtt up` on that server; it can be killed and started again on its address and its data. */
export async function up(server, more = []) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dashboard-up-'))
  const file = path.join(directory, 'plant.yaml')
  fs.writeFileSync(file, configuration(server.port))
  const data = path.join(directory, 'data')
  const process = { data, url: null }
  process.start = async () => {
    const http = process.url ? new URL(process.url).host : '127.0.0.1:0'
    process.child = start(path.join(BINARIES, 'akri-mqtt'), [
      'up', '--file', file, '--data-dir', data, '--http', http, '--grpc', '127.0.0.1:0', ...more,
    ])
    process.url = await until('the address of the dashboard', () => {
      assert.equal(process.child.exitCode, null, process.child.lines)
      return process.child.lines.match(/^Dashboard +(http:\S+)$/m)?.[1]
    })
  }
  process.end = async () => {
    await process.child.end()
    fs.rmSync(directory, { recursive: true, force: true })
  }
  const found = async (name) => {
    const answer = await fetch(`${process.url}v1/devices/${encodeURIComponent(`plant/${name}`)}`)
    return answer.ok && answer.json()
  }
  /** Waits until a device of that name is known. */
  process.has = (name) => until(`${name} is known`, () => found(name))
  /** Waits until it was heard: from then on everything that it says is stored. */
  process.watches = (name) => until(`${name} is watched`, async () => (await found(name))?.presence?.state === 'online')
  await process.start()
  return process
}

/** A monitoring broker as in the pod of one device. */
export async function pod(server, device, topics, more = []) {
  const data = fs.mkdtempSync(path.join(os.tmpdir(), 'dashboard-pod-'))
  const http = `127.0.0.1:${await freePort()}`
  const child = start(
    path.join(BINARIES, 'akri-mqtt-monitoring-broker'),
    ['--http', http, '--grpc', '127.0.0.1:0', '--data-dir', data, ...more],
    {
      env: {
        ...process.env,
        MQTT_DEVICE_ID: device,
        MQTT_SERVER_URLS: `tcp://127.0.0.1:${server.port}`,
        MQTT_TOPICS: JSON.stringify(topics),
      },
    },
  )
  await until('the pod answers', () => listens(Number(http.split(':')[1])))
  const end = async () => {
    await child.end()
    fs.rmSync(data, { recursive: true, force: true })
  }
  return { url: `http://${http}/`, end }
}

/** `akri-mqtt demo`, with what it says first. */
export async function demo(devices = 6) {
  const child = start(path.join(BINARIES, 'akri-mqtt'), [
    'demo', '--duration', '0', '--devices', String(devices), '--http', '127.0.0.1:0', '--json',
  ])
  const first = await until('the first line of the demo', () => child.lines.split('\n').slice(0, -1)[0])
  return { first, url: first.match(/http:\S+/)?.[0], end: child.end }
}

/** A device with birth and Last Will, on `plant/<name>/…`. */
export async function device(server, name) {
  const status = `plant/${name}/status`
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${server.port}`, {
    protocolVersion: 5,
    reconnectPeriod: 200,
    will: { topic: status, payload: 'offline', qos: 1, retain: true },
  })
  const born = () => client.publish(status, 'online', { qos: 1, retain: true })
  born()
  client.on('connect', born)
  return {
    say: (channel, payload, options = {}) => client.publishAsync(`plant/${name}/${channel}`, payload, { qos: 1, ...options }),
    client,
    /** Its connection breaks without a good-bye. */
    die() {
      client.options.reconnectPeriod = 0
      client.stream.destroy()
    },
    end: () => client.endAsync(true),
  }
}

/** A browser that notes whatever a page must not do. */
export async function browser() {
  const args = process.getuid() === 0 ? ['--no-sandbox'] : []
  return chromium.launch({ executablePath: CHROMIUM, args })
}

/** A page; `clean` fails if it met an error, a breach of its policy, or asked anybody else. */
export async function openPage(browser, url, { tolerate = null, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  const page = await context.newPage()
  const wrong = []
  page.on('pageerror', (error) => wrong.push(`error: ${error.stack}`))
  page.on('console', (message) => {
    const text = `${message.type()}: ${message.text()}`
    if (['error', 'warning'].includes(message.type()) && !tolerate?.test(text)) wrong.push(text)
  })
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin && !request.url().startsWith('data:')) wrong.push(`asked ${request.url()}`)
  })
  page.on('dialog', (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`)
    dialog.dismiss()
  })
  await page.addInitScript(() => {
    globalThis.breaches = []
    addEventListener('securitypolicyviolation', (event) => globalThis.breaches.push(`${event.violatedDirective} ${event.blockedURI}`))
  })
  await page.goto(url)
  page.clean = async () => {
    wrong.push(...await page.evaluate(() => globalThis.breaches))
    await context.close()
    assert.deepEqual(wrong, [])
  }
  return page
}

export const deviceUrl = (url, id) => `${url}#/device/${encodeURIComponent(id)}`
