// The parts of the dashboard that decide something, in the browser that runs them.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fs from 'node:fs'
import path from 'node:path'

import { MODULES, ROOT, browser, mosquitto, openPage, pod } from './support.mjs'

let chromium, server, served, page

before(async () => {
  [chromium, server] = await Promise.all([browser(), mosquitto()])
  served = await pod(server, 'plant/none', ['plant/none/data'])
  page = await openPage(chromium, served.url)
})

after(async () => {
  await page?.clean()
  await Promise.all([chromium?.close(), served?.end(), server?.end()])
})

/** What a function of a module answers. */
const call = (file, name, ...args) => page.evaluate(
  async ([file, name, args]) => (await import(`/assets/js/${file}.js`))[name](...args), [file, name, args],
)

test('events are cut out of the stream wherever it is split', async () => {
  const stream = 'id: s:1\n\n: still here\nid: s:2\n\nid: s:3\nevent: message\ndata: {"a":\ndata: 1}\r\n\r\nevent: presence\ndata: {}\n\nid: s:4\ndata'
  for (const size of [1, 2, 3, 7, 1000]) {
    const parsed = await page.evaluate(async ([stream, size]) => {
      const { Parser } = await import('/assets/js/sse.js')
      const parser = new Parser()
      const events = []
      for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.slice(at, at + size)))
      return { events, id: parser.id }
    }, [stream, size])
    assert.deepEqual(parsed, {
      events: [
        { type: 'message', data: '{"a":\n1}', id: 's:3' },
        { type: 'presence', data: '{}', id: 's:3' },
      ],
      // Half an event does not count.
      id: 's:3',
    }, `pieces of ${size}`)
  }
})

test('topic filters take what an MQTT server would deliver', async () => {
  for (const [filter, topic, expected] of [
    ['', 'a/b', true], ['a/b', 'a/b', true], ['a/+', 'a/b', true], ['a/+', 'a/b/c', false], ['a/#', 'a', true],
    ['a/#', 'a/b/c', true], ['#', '$SYS/x', false], ['+/x', '$SYS/x', false], ['$SYS/#', '$SYS/x', true], ['a', 'a/b', false],
    ['+/+', '/a', true],
  ]) assert.equal(await call('topic', 'takes', filter, topic), expected, `${filter} ${topic}`)
})

test('thinning keeps the ends, the order and every peak', async () => {
  const times = Array.from({ length: 10_000 }, (_, at) => 1_700_000_000 + at / 3)
  const values = times.map((_, at) => (at === 4_321 ? 99 : at === 8_765 ? -99 : at % 10))
  const [thinTimes, thinValues] = await call('series', 'thin', [times, values], 100)
  assert.ok(thinTimes.length <= 202, String(thinTimes.length))
  assert.deepEqual([Math.max(...thinValues), Math.min(...thinValues)], [99, -99])
  assert.ok(thinTimes.every((time, at) => at === 0 || time >= thinTimes[at - 1]))
  const same = [[1, 1, 1], [5, 6, 7]]
  assert.deepEqual(await call('series', 'thin', same, 10), same)
  assert.deepEqual(await call('series', 'thin', [Array(50).fill(1), Array.from({ length: 50 }, (_, at) => at)], 5), [[1, 1], [0, 49]])
  assert.deepEqual(await call('series', 'since', [[1, 2, 3], [4, 5, 6]], 2), [[2, 3], [5, 6]])
  assert.deepEqual(await call('series', 'since', [[1, 2, 3], [4, 5, 6]], 9), [[], []])
})

test('payloads and names are shown as what they are', async () => {
  const shown = (payload, encoding) => call('payload', 'line', { payload, payload_encoding: encoding })
  assert.equal(await shown({ a: [1, null] }, 'json'), '{"a":[1,null]}')
  assert.equal(await shown('', 'text'), '(empty)')
  assert.equal(await shown('/wCr', 'base64'), 'ff 00 ab')
  assert.equal((await shown('x'.repeat(100_000), 'text')).length, 161)
  assert.equal(await call('payload', 'readingName', '/a~1b/c~0d'), 'a/b/c~d')
  assert.equal(await call('payload', 'number', '18446744073709551615'), 18446744073709552000)
  assert.equal(await call('payload', 'number', 'warm'), null)
})

test('uPlot is the copy that npm has', () => {
  for (const file of ['dist/uPlot.iife.min.js', 'dist/uPlot.min.css', 'LICENSE']) {
    const committed = fs.readFileSync(path.join(ROOT, 'monitoring-broker/assets/vendor/uplot', path.basename(file)))
    const released = fs.readFileSync(path.join(MODULES, 'uplot', file))
    assert.ok(committed.equals(released), `${file}: copy it from node_modules/uplot after \`cargo xtask tools\``)
  }
})
