// The pictures of the documentation, of a demo that has run for a while: `node tests/browser/screenshots.mjs`, after
// `cargo xtask tools` and `cargo build --workspace`. Out: docs/images/dashboard-*.png.
import path from 'node:path'
import { fileURLToPath } from 'node:url'

import { browser, demo, deviceUrl, until } from './support.mjs'

const IMAGES = fileURLToPath(new URL('../../docs/images/', import.meta.url))
const SHOWN = [
  { name: 'light', colorScheme: 'light', viewport: { width: 1280, height: 860 } },
  { name: 'dark', colorScheme: 'dark', viewport: { width: 1280, height: 860 } },
  { name: 'phone', colorScheme: 'light', viewport: { width: 360, height: 740 } },
]
/** How long the chart's line is to be. */
const POINTS = 300

const running = await demo(7)
const chromium = await browser()
const robot = 'demo/robot-4'
await until('the demo has run for a while', async () => {
  const path = `v1/devices/${encodeURIComponent(robot)}/messages?limit=${POINTS}`
  const answer = await fetch(running.url + path).catch(() => null)
  return answer?.ok && (await answer.json()).messages.length === POINTS
}, 600_000)
for (const { name, ...options } of SHOWN) {
  const page = await chromium.newPage(options)
  await page.goto(deviceUrl(running.url, robot))
  await until('it is filled', async () => (await page.locator('#messages summary').count()) >= 50)
  await until('it is live', async () => (await page.locator('dd.changed').count()) > 0)
  await page.screenshot({ path: path.join(IMAGES, `dashboard-${name}.png`) })
  await page.close()
}
await chromium.close()
await running.end()
