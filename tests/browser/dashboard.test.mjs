// The dashboard in a real Chromium, on a real Mosquitto with devices that die for real.
// Run by tests/tests/dashboard.rs: `cargo test -p akri-mqtt-tests --test dashboard`.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'

import {
  axeSource, browser, demo, device, deviceUrl, mosquitto, openPage, pod, until, up,
} from './support.mjs'

const LIMIT = { timeout: 120_000 }
const HOSTILE = '<img src=x onerror=alert(1)>'
/** What Chromium says by itself of a server that does not answer. */
const UNREACHABLE = /Failed to load resource/

let chromium, server, served, robot

before(async () => {
  [chromium, server] = await Promise.all([browser(), mosquitto()])
  served = await up(server)
  robot = await device(server, 'robot')
  await served.watches('robot')
  // What is said from now on is stored.
  await robot.say('data', '{"axis":1.5,"grip":"open","on":true}')
}, LIMIT)

after(async () => {
  await robot?.end()
  await Promise.all([chromium?.close(), served?.end()])
  await server?.end()
})

const openRobot = (options) => openPage(chromium, deviceUrl(served.url, 'plant/robot'), options)
const text = (page, selector) => page.locator(selector).first().innerText()
const quiet = (page) => until('no trouble is told', async () => (await text(page, '#notices')).trim() === '')
const shows = (page, selector, wanted) => until(`${selector} shows ${wanted}`, async () => wanted.test(await text(page, selector)))
const isWide = (page) => page.evaluate(() => document.documentElement.scrollWidth > innerWidth)

test('the list has the devices with presence, age and reason, and a device its live values', LIMIT, async () => {
  const page = await openPage(chromium, served.url)
  const row = page.locator('#list li').filter({ hasText: 'robot' })
  // Alone it opens at once; the list is beside it.
  await until('it is online', async () => (await row.locator('.state').innerText()) === 'Online')
  assert.match(await row.innerText(), /now|\d+ s ago/)
  await row.getByRole('link').click()
  await shows(page, '#device-reason', /plant\/robot\/status/)
  await shows(page, '#values', /axis\s+1\.5\s+grip\s+open\s+on\s+true/)
  await robot.say('data', '{"axis":2.5,"grip":"open","on":true}')
  await shows(page, '#values', /axis\s+2\.5/)
  assert.equal(await page.locator('dd.changed').count(), 1, 'only what changed glows')
  assert.match(await text(page, '#values .marks'), /QoS 1/)
  await page.clean()
})

test('the chart has the points of the time that was chosen, and grows with what comes', LIMIT, async () => {
  for (const axis of [3, 9, 6]) await robot.say('data', JSON.stringify({ axis }))
  const page = await openRobot()
  await shows(page, '#chart-sum', /Last 6 · lowest 1.5 · highest 9/)
  await robot.say('data', '{"axis":12}')
  await shows(page, '#chart-sum', /Last 12 · .*highest 12/)
  const ink = () => page.evaluate(() => {
    const canvas = document.querySelector('#plot canvas')
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    // The line is green: more so than grid and labels, which are grey.
    return data.some((_, at) => at % 4 === 0 && data[at + 3] > 200 && data[at + 1] - data[at] > 60)
  })
  await until('the line is drawn', ink)
  await page.getByRole('radio', { name: '24 h' }).check()
  await shows(page, '#chart-sum', /Last 12/)
  await page.getByText('As a table').click()
  await shows(page, '#chart-rows', /12/)
  await page.getByRole('radio', { name: 'Custom' }).check()
  await page.locator('#from').fill('2020-01-01T00:00')
  await page.locator('#to').fill('2020-01-02T00:00')
  await page.getByRole('button', { name: 'Show', exact: true }).click()
  await shows(page, '#chart-sum', /No readings in this time/)
  await page.getByRole('radio', { name: '5 min' }).check()
  await robot.say('data', '{"axis":12,"on":true}')
  await page.getByRole('button', { name: 'on', exact: true }).click()
  await shows(page, '#chart-sum', /lowest 1 · highest 1/)
  await page.clean()
})

test('a device that is killed is offline with its reason, and comes back', LIMIT, async () => {
  const victim = await device(server, 'victim')
  await served.watches('victim')
  const page = await openPage(chromium, deviceUrl(served.url, 'plant/victim'))
  await shows(page, '#device-state', /online/i)
  victim.die()
  await shows(page, '#device-state', /offline/i)
  await shows(page, '#device-reason', /Last Will|plant\/victim\/status/)
  await shows(page, '#announcer', /plant\/victim is offline/)
  await page.getByRole('radio', { name: /Offline/ }).check()
  await until('the list has only the victim', async () => /^victim/.test((await page.locator('#list').innerText()).trim()))
  const again = await device(server, 'victim')
  await shows(page, '#device-state', /online/i)
  await again.end()
  await page.clean()
})

test('messages are searched by topic and by text, and shown by their encoding', LIMIT, async () => {
  const talker = await device(server, 'talker')
  await served.watches('talker')
  await talker.say('text', 'The door is OPEN')
  await talker.say('bytes', Buffer.from([0xff, 0x00, 0xab]))
  await talker.say('json', '{"deep":{"list":[1,2]},"note":"window open"}', { properties: { contentType: 'application/json' } })
  await talker.say('kept', 'again', { retain: true })
  const page = await openPage(chromium, deviceUrl(served.url, 'plant/talker'), { tolerate: /status of 400/ })
  const rows = page.locator('#messages li')
  await until('all messages are there', async () => (await rows.count()) >= 4)
  await page.getByLabel('Text in the payload').fill('open')
  await page.getByRole('button', { name: 'Search' }).click()
  await until('two have the text', async () => (await rows.count()) === 2)
  await page.getByLabel('Topic filter', { exact: true }).fill('plant/+/text')
  await page.getByRole('button', { name: 'Search' }).click()
  await until('one has the topic as well', async () => (await rows.count()) === 1)
  await talker.say('text', 'open live')
  await talker.say('json', '"open elsewhere"')
  await until('live messages are searched, too', async () => (await rows.count()) === 2)
  await page.getByLabel('Topic filter', { exact: true }).fill('plant/#/wrong')
  await page.getByRole('button', { name: 'Search' }).click()
  await shows(page, '#messages-note', /topic: found .*allowed: an MQTT topic filter/)
  await page.getByLabel('Topic filter', { exact: true }).fill('')
  await page.getByLabel('Text in the payload').fill('')
  await page.getByRole('button', { name: 'Search' }).click()
  await until('all are back', async () => (await rows.count()) >= 6)
  await rows.filter({ hasText: 'ff 00 ab' }).locator('summary').click()
  assert.deepEqual(await rows.locator('pre').allInnerTexts(), ['ff 00 ab', '/wCr'])
  await rows.filter({ hasText: 'window open' }).locator('summary').click()
  await page.getByText('"deep": {').waitFor()
  // An open message holds the list.
  await shows(page, '#pause', /Resume/)
  await page.clean()
  await talker.end()
})

test('what a device sends never becomes markup', LIMIT, async () => {
  const hostile = await device(server, HOSTILE)
  await served.watches(HOSTILE)
  await hostile.say('data', HOSTILE)
  await hostile.say('more', `{"${HOSTILE}":"${HOSTILE}","__proto__":{"x":1},"toString":5}`)
  await hostile.say(`"><script>alert(2)</script>`.replaceAll('/', '_'), '"><script>alert(3)</script>', {
    properties: { userProperties: { [HOSTILE]: HOSTILE }, contentType: HOSTILE },
  })
  await hostile.say('line', 'a\u202eb\u0000c\nevent: gap\ndata: {}\n\n')
  const id = `plant/${HOSTILE}`
  const page = await openPage(chromium, served.url)
  await page.locator('#search').fill('<IMG')
  await page.locator('#list a').first().click()
  await until('all messages are there', async () => (await page.locator('#messages li').count()) >= 4)
  for (const summary of await page.locator('#messages summary').all()) await summary.click()
  assert.equal(await page.locator('#device-title').innerText(), id)
  const made = await page.evaluate(() => document.querySelectorAll('main img, main script').length)
  assert.equal(made, 0)
  await page.clean()
  await hostile.end()
})

test('it is light or dark as the system is, or as it was chosen', LIMIT, async () => {
  const page = await openRobot({ colorScheme: 'dark' })
  const shade = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  const dark = await shade()
  await page.emulateMedia({ colorScheme: 'light' })
  const light = await shade()
  assert.notEqual(dark, light)
  const theme = page.getByRole('button', { name: /Theme/ })
  await theme.click()
  await theme.click()
  await page.reload()
  await page.getByRole('button', { name: 'Theme: dark' }).waitFor()
  assert.equal(await shade(), dark)
  await page.clean()
})

test('on a phone nothing is cut off or scrolls sideways', LIMIT, async () => {
  const wordy = await device(server, 'w'.repeat(120))
  await served.watches('w'.repeat(120))
  await wordy.say('x'.repeat(200), JSON.stringify({ ['k'.repeat(150)]: 'v'.repeat(3_000) }))
  const page = await openPage(chromium, `${served.url}#/`, { viewport: { width: 360, height: 740 }, hasTouch: true })
  await page.locator('#list a').first().waitFor()
  assert.equal(await isWide(page), false, 'the list')
  await page.getByText('w'.repeat(120)).first().tap()
  await page.locator('#messages summary').first().tap()
  await page.getByRole('radio', { name: 'Custom' }).tap()
  assert.equal(await isWide(page), false, 'a device')
  await page.getByRole('link', { name: 'All devices' }).tap()
  await page.locator('#list a').first().waitFor()
  await page.clean()
  await wordy.end()
})

test('the keyboard alone reaches the search, a device, a reading and a message', LIMIT, async () => {
  const page = await openPage(chromium, `${served.url}#/`)
  await page.locator('#list a').first().waitFor()
  const focus = (selector) => until(`focus on ${selector}`, () => page.evaluate((s) => document.activeElement?.matches(s), selector))
  const tabTo = (selector) => until(`tab to ${selector}`, async () => {
    await page.keyboard.press('Tab')
    return page.evaluate((s) => document.activeElement?.matches(s), selector)
  })
  await page.keyboard.press('Tab')
  await focus('#skip')
  await page.keyboard.press('Enter')
  await focus('#main')
  await tabTo('#search')
  await page.keyboard.type('robot')
  await until('one is left', async () => (await page.locator('#list li').count()) === 1)
  await tabTo('[name=state]')
  await page.keyboard.press('ArrowRight')
  assert.equal(await page.evaluate(() => document.activeElement.value), 'online')
  await tabTo('#list a')
  await page.keyboard.press('Enter')
  await focus('#device-title')
  await tabTo('#reading')
  await tabTo('.pick')
  await page.keyboard.press('Enter')
  await focus('#reading')
  await tabTo('#messages summary')
  await page.keyboard.press('Enter')
  await page.locator('#messages pre').first().waitFor()
  await page.clean()
})

test('axe finds nothing serious, light or dark, in the list or at a device', LIMIT, async () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const [url, width] of [[`${served.url}#/`, 1280], [deviceUrl(served.url, 'plant/robot'), 1280], [deviceUrl(served.url, 'plant/robot'), 360]]) {
      // The checks themselves are not bound by the page's policy.
      const page = await openPage(chromium, url, { colorScheme, bypassCSP: true, viewport: { width, height: 800 } })
      await until('it is filled', () => page.locator(url.includes('device') ? '#messages summary' : '#list a').count())
      await page.evaluate(axeSource())
      const { violations } = await page.evaluate(() => globalThis.axe.run())
      const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
      assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], `${colorScheme} ${url} ${width}`)
      await page.clean()
    }
  }
})

test('many devices come in pages and are found by a part of their name', LIMIT, async () => {
  const many = await device(server, 'crowd-000')
  for (let number = 1; number < 120; number += 1) {
    await many.client.publishAsync(`plant/crowd-${String(number).padStart(3, '0')}/data`, '1', { qos: 1 })
  }
  await served.has('crowd-119')
  const page = await openPage(chromium, `${served.url}#/`)
  await page.locator('#search').fill('CROWD')
  await shows(page, '#pages', /^1–50 of 1(19|20)$/)
  await page.getByRole('button', { name: 'Next' }).click()
  await shows(page, '#pages', /^51–100 of/)
  assert.match(await text(page, '#list li'), /crowd-05/)
  await page.getByRole('button', { name: 'Previous' }).click()
  await shows(page, '#pages', /^1–50 of/)
  await page.locator('#search').fill('crowd-119')
  await until('one is left', async () => (await page.locator('#list li').count()) === 1)
  await page.clean()
  await many.end()
})

test('an outage of the MQTT server is told at the top until it is over', LIMIT, async () => {
  const page = await openRobot()
  await shows(page, '#device-server', /^connected/)
  await server.child.end()
  await shows(page, '#notices', /No connection to the MQTT server plant/)
  await shows(page, '#device-server', /not connected/)
  await server.start()
  await quiet(page)
  await robot.say('data', '{"axis":77}')
  await shows(page, '#values', /axis\s+77/)
  await page.clean()
})

test('a broken stream is told and goes on where it was, without loss or repetition', LIMIT, async () => {
  const page = await openRobot({ tolerate: UNREACHABLE })
  await shows(page, '#device-stream', /live/)
  await robot.say('data', '{"axis":100}')
  await shows(page, '#values', /axis\s+100/)
  await served.child.end()
  await shows(page, '#notices', /The live stream broke/)
  await shows(page, '#notices', /does not answer/)
  await shows(page, '#link-text', /Data of \d+ s ago/)
  for (const axis of [101, 102, 103]) await robot.say('data', JSON.stringify({ axis }))
  await served.start()
  await shows(page, '#device-stream', /live/)
  for (const axis of [104, 105]) await robot.say('data', JSON.stringify({ axis }))
  await shows(page, '#values', /axis\s+105/)
  const lines = await until('all are listed', async () => {
    const lines = await page.locator('#messages .what').allInnerTexts()
    return lines[0]?.includes('105') && lines
  })
  const seen = lines.map((line) => Number(line.match(/"axis":(\d+)/)?.[1])).filter((axis) => axis >= 100)
  assert.deepEqual(seen, [105, 104, 103, 102, 101, 100])
  await quiet(page)
  await page.clean()
})

test('messages that are lost are shown as missing', LIMIT, async () => {
  const page = await openRobot({ tolerate: UNREACHABLE })
  await robot.say('data', '{"axis":200}')
  await shows(page, '#values', /axis\s+200/)
  await served.child.end()
  fs.rmSync(served.data, { recursive: true, force: true })
  await served.start()
  await served.watches('robot')
  await robot.say('data', '{"axis":201}')
  await shows(page, '#messages .gap', /Messages are missing here/)
  await shows(page, '#notices', /Messages are missing here/)
  await shows(page, '#values', /axis\s+201/)
  await page.getByRole('button', { name: 'Understood' }).click()
  await until('it was understood', async () => !/missing/.test(await text(page, '#notices')))
  await page.clean()
})

test('a thousand messages a second do not freeze it and do not pile up', LIMIT, async () => {
  const page = await openRobot()
  await shows(page, '#device-stream', /live/)
  const longestFrame = () => page.evaluate(() => new Promise((resolve) => {
    const [end, gaps] = [performance.now() + 3_000, []]
    let last = performance.now()
    const frame = (now) => {
      gaps.push(now - last)
      last = now
      if (now < end) requestAnimationFrame(frame)
      else resolve(Math.max(...gaps))
    }
    requestAnimationFrame(frame)
  }))
  const idle = await longestFrame()
  const every = 20
  let sent = 0
  const timer = setInterval(() => {
    for (let of = 0; of < every; of += 1) robot.say('data', JSON.stringify({ axis: sent += 1 }), { qos: 0 })
  }, every)
  await until('they come', async () => Number((await text(page, '#chart-sum')).match(/^Last (\d+)/)?.[1]) > 2_000)
  const busy = await longestFrame()
  clearInterval(timer)
  const measured = `${busy.toFixed(0)} ms at 1,000 messages a second, ${idle.toFixed(0)} ms at none`
  console.log(`# longest time between two frames: ${measured}`)
  assert.ok(busy < 1_000 + 10 * idle, measured)
  await shows(page, '#values', new RegExp(`axis\\s+${sent}\\b`))
  assert.ok(await page.locator('#messages li').count() <= 200)
  await page.clean()
})

test('in the pod of one device it opens on that device', LIMIT, async () => {
  const alone = await pod(server, 'plant/robot', ['plant/robot/data'])
  await robot.say('data', '{"axis":300}')
  const page = await openPage(chromium, alone.url)
  await shows(page, '#device-title', /plant\/robot/)
  await robot.say('data', '{"axis":301}')
  await shows(page, '#values', /axis\s+301/)
  await page.clean()
  await alone.end()
})

test('where a token is wanted it asks for it, and keeps it in this tab only', LIMIT, async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dashboard-token-'))
  const file = path.join(directory, 'token')
  fs.writeFileSync(file, 'a-token-of-some-length-0123456789\n')
  const closed = await pod(server, 'plant/robot', ['plant/robot/data'], ['--auth-token-file', file])
  const page = await openPage(chromium, closed.url, { tolerate: /status of 401/ })
  const dialog = page.getByRole('dialog', { name: 'Access token' })
  const enter = async (token) => {
    await dialog.getByLabel('Token', { exact: true }).fill(token)
    await dialog.getByRole('button', { name: 'Continue' }).click()
  }
  await dialog.waitFor()
  await enter('not-this-one')
  await dialog.getByText('did not accept').waitFor()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await shows(page, '#notices', /wants a token/)
  await page.getByRole('button', { name: 'Enter it' }).click()
  await enter('a-token-of-some-length-0123456789')
  await shows(page, '#device-stream', /live/)
  await robot.say('data', '{"axis":400}')
  await shows(page, '#values', /axis\s+400/)
  await quiet(page)
  await page.reload()
  await shows(page, '#device-stream', /live/)
  const kept = await page.evaluate(() => [Object.values(localStorage), document.cookie, location.href].join())
  assert.doesNotMatch(kept, /a-token/)
  await page.clean()
  await closed.end()
  fs.rmSync(directory, { recursive: true })
})

test('a command reaches the device where it is allowed, and is refused elsewhere', LIMIT, async () => {
  const asked = await pod(server, 'plant/robot', ['plant/robot/data'], ['--allow-publish', 'plant/robot/set'])
  const page = await openPage(chromium, asked.url, { tolerate: /status of 403/ })
  const heard = []
  robot.client.on('message', (topic, payload) => heard.push(`${topic} ${payload}`))
  await robot.client.subscribeAsync('plant/robot/set', { qos: 1 })
  await page.getByText('Send a command').click()
  await page.locator('#command-topic').fill('plant/robot/set')
  await page.locator('#command-payload').fill('{"axis":0}')
  await page.getByRole('button', { name: 'Send' }).click()
  await shows(page, '#command-note', /took it/)
  await until('the device has it', () => heard.includes('plant/robot/set {"axis":0}'))
  await page.locator('#command-topic').fill('plant/other/set')
  await page.getByRole('button', { name: 'Send' }).click()
  await shows(page, '#command-note', /Not sent: /)
  await page.clean()
  await asked.end()
})

test('the demo says first where the dashboard is', LIMIT, async () => {
  const running = await demo(3)
  assert.match(running.first, /^Dashboard +http:/)
  const page = await openPage(chromium, running.url)
  await until('its devices are listed', async () => (await page.locator('#list li').count()) === 3)
  await page.clean()
  await running.end()
})
