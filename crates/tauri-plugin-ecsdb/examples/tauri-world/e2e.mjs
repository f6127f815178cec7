// Drives the example in a real window under Xvfb, by WebKitWebDriver: ticks, a snapshot, a kill, a start, a reload, a restore, a SIGTERM,
// a restart.
// Usage: node e2e.mjs BINARY SCREENSHOT

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const [binary, screenshot] = process.argv.slice(2).map((path) => resolve(path))
assert(binary, 'usage: node e2e.mjs BINARY [SCREENSHOT]')
const PATIENCE = 60_000
const dir = mkdtempSync(join(tmpdir(), 'tauri-world-'))
const children = []

function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options })
  children.push(child)
  return child
}

async function until(what, look) {
  const end = Date.now() + PATIENCE
  for (;;) {
    const found = await look()
    if (found) return found
    assert(Date.now() < end, `waited in vain for ${what}`)
    await sleep(50)
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((done) => server.once('listening', done))
  const { port } = server.address()
  await new Promise((done) => server.close(done))
  return port
}

/** A display of its own; its number is what Xvfb says. */
async function display() {
  const child = start('Xvfb', ['-displayfd', '3', '-screen', '0', '1280x800x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  })
  let text = ''
  child.stdio[3].on('data', (data) => (text += data))
  return `:${await until('Xvfb', () => /^\d+\n/.test(text) && text.trim())}`
}

/** The application in a window, with a driver of its own. */
async function open(env) {
  const port = await freePort()
  const driver = start('WebKitWebDriver', [`--port=${port}`], { env })
  const call = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) })
    const { value } = await answer.json()
    if (value?.error) throw new Error(`${value.error}: ${value.message}`)
    return value
  }
  await until('the driver', () => call('GET', '/status').then(() => true, () => false))
  const options = { 'webkitgtk:browserOptions': { binary, args: [] } }
  const { sessionId } = await call('POST', '/session', { capabilities: { alwaysMatch: options } })
  processes() // Seen before it can end.
  const session = (method, path, body) => call(method, `/session/${sessionId}${path}`, body)
  const run = (script) => session('POST', '/execute/sync', { script, args: [] })
  const text = (id) => run(`return document.getElementById('${id}')?.textContent`)
  const click = async (id) => {
    const element = await session('POST', '/element', { using: 'css selector', value: `#${id}` })
    await session('POST', `/element/${Object.values(element)[0]}/click`, {})
  }
  return {
    text,
    click,
    tick: async () => Number(await text('tick')),
    ticks: (beyond) => until(`a tick beyond ${beyond}`, async () => Number(await text('tick')) > beyond),
    reload: () => session('POST', '/refresh', {}),
    picture: async () => Buffer.from(await session('GET', '/screenshot'), 'base64'),
    end: () => driver.kill(),
  }
}

/** All that `processes` has ever found. */
const seen = new Set()

/** Processes of the application that use this run's directory. */
function processes() {
  return readdirSync('/proc').filter((pid) => {
    try {
      const [command, env] = [readFileSync(`/proc/${pid}/cmdline`, 'utf8'), readFileSync(`/proc/${pid}/environ`, 'utf8')]
      const isIts = command.split('\0')[0] === binary && env.includes(`XDG_DATA_HOME=${dir}`)
      if (isIts) seen.add(pid)
      return isIts
    } catch {
      return false // It is gone, or somebody else's.
    }
  })
}

/** One that is being killed has no command any more, and still has its files, as long as there is any thread of it but a zombie. */
function hasLetGo(pid) {
  try {
    const isDead = /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    return isDead && readdirSync(`/proc/${pid}/task`).length === 1
  } catch {
    return true
  }
}

/** When the world was last written to. */
function written() {
  const files = readdirSync(dir, { recursive: true }).filter((name) => name.includes('world/log/'))
  return Math.max(...files.map((name) => statSync(join(dir, name), { throwIfNoEntry: false })?.mtimeMs ?? 0))
}

const gone = (why) => until(`the end by ${why}`, () => processes().length === 0 && [...seen].every(hasLetGo))

try {
  const env = {
    ...process.env,
    DISPLAY: await display(),
    GDK_BACKEND: 'x11',
    XDG_DATA_HOME: dir,
    TAURI_AUTOMATION: 'true',
    TAURI_WEBVIEW_AUTOMATION: 'true',
    // There is no graphics card behind Xvfb.
    WEBKIT_DISABLE_DMABUF_RENDERER: '1',
    LIBGL_ALWAYS_SOFTWARE: '1',
  }
  let page = await open(env)
  await page.ticks(120)
  assert.equal(await page.text('bodies'), '4000')
  assert.equal(await page.text('starts'), 'once')

  await page.click('snapshot')
  await until('the snapshot', async () => /^Snapshot \d+ has the world at LSN/.test(await page.text('word')))
  await until('its event', async () => /^snapshot \d+$/.test(await page.text('event')))
  const snapshotTick = await page.tick()

  await page.ticks(snapshotTick + 120)
  const killedAt = await page.tick()
  await page.click('kill').catch(() => {}) // The driver has nobody to answer it any more.
  await gone('SIGKILL')
  page.end()
  console.log(`killed at tick ${killedAt} or later`)

  page = await open(env)
  await page.ticks(0)
  const resumedAt = await page.tick()
  console.log(`went on at tick ${resumedAt}`)
  assert(resumedAt >= killedAt, `${resumedAt} is below ${killedAt}, which was shown`)
  await until('the store', async () => (await page.text('starts')) === '2 times')

  // A reload in the middle of whatever goes on: the page is told of events again.
  await page.click('snapshot')
  await page.reload()
  await page.ticks(resumedAt)
  await until('the store', async () => (await page.text('starts')) === '3 times')
  await page.click('snapshot')
  await until('an event', async () => /^snapshot \d+$/.test(await page.text('event')))

  const before = await page.tick()
  await page.ticks(before + 180)
  const late = await page.tick()
  await page.click('restore')
  await until('the restoring', async () => /again, by transaction \d+\.$/.test(await page.text('word')))
  const restored = await until('an earlier tick', async () => (await page.tick()) < late && (await page.tick()))
  console.log(`restored from tick ${late} to about ${restored}`)

  await page.ticks(restored + 120)
  await page.click('snapshot')
  await until('the snapshot', async () => /^Snapshot/.test(await page.text('word')))
  await until('an event', async () => /^snapshot \d+$/.test(await page.text('event')))
  await until('the rate', async () => Number(await page.text('rate')) > 0)
  console.log(`${await page.text('rate')} ticks a second`)
  if (screenshot) writeFileSync(screenshot, await page.picture())

  const [pid] = processes()
  const last = await page.tick()
  process.kill(Number(pid), 'SIGTERM')
  await gone('SIGTERM')
  page.end()
  // It was closed, so that what was shown is whole; and the next start finds it so.
  page = await open(env)
  await page.ticks(0)
  assert((await page.tick()) >= last)
  console.log('ended by SIGTERM, and went on')

  // The next process must find the directories released.
  const starts = Number.parseInt(await page.text('starts'))
  const [old] = processes()
  await page.click('restart').catch(() => {})
  await until('another process', () => processes().length === 1 && processes()[0] !== old)
  const began = Date.now()
  await until('the new process to write', () => written() > began)
  const [next] = processes()
  assert(next, 'the new process is still there')
  page.end()
  process.kill(Number(next), 'SIGTERM')
  await gone('SIGTERM')
  page = await open(env)
  // The page of the process in between may have been too late to count itself.
  await until('another start', async () => Number.parseInt(await page.text('starts')) > starts)
  page.end()
  console.log('restarted, and went on')
} finally {
  for (const child of children.reverse()) child.kill('SIGKILL')
  for (const pid of processes()) process.kill(Number(pid), 'SIGKILL')
  spawnSync('sleep', ['0.2'])
  rmSync(dir, { recursive: true, force: true })
}
