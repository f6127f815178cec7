// Draws the world as it is on stable storage, and lets one snapshot it, go back, and kill it.

import { invoke } from '@tauri-apps/api/core'
import { EcsdbError, createSnapshot, load, restoreSnapshot, subscribe, type Event } from 'tauri-plugin-ecsdb-api'

/** Bytes before the bodies: tick and LSN. */
const HEAD = 16
/** Numbers of each body: its place. */
const EACH = 2
const COLOURS = 64

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T
}

const sky = element<HTMLCanvasElement>('sky')
const paint = sky.getContext('2d')!
const says = (id: string, text: string) => {
  element(id).textContent = text
}

// From the middle, golden, by way of rose to the blue outside.
const colours = Array.from({ length: COLOURS }, (_, i) => {
  const out = i / (COLOURS - 1)
  return `hsl(${(400 - 180 * out) % 360} 90% ${70 - 12 * out}%)`
})

function draw(bodies: Float32Array): void {
  const ratio = window.devicePixelRatio
  const [width, height] = [sky.clientWidth * ratio, sky.clientHeight * ratio]
  if (sky.width !== width || sky.height !== height) {
    sky.width = width
    sky.height = height
  }
  // What was there fades, so that bodies have trails.
  paint.globalCompositeOperation = 'source-over'
  paint.fillStyle = 'rgba(5, 6, 13, 0.2)'
  paint.fillRect(0, 0, width, height)
  paint.globalCompositeOperation = 'lighter'
  const scale = Math.min(width, height) * 0.48
  const [x0, y0] = [width * 0.57, height / 2]
  for (let i = 0; i < bodies.length; i += EACH) {
    const [x, y] = [bodies[i]!, bodies[i + 1]!]
    const size = (i % 11 === 0 ? 2.4 : 1.5) * ratio
    paint.fillStyle = colours[Math.min(COLOURS - 1, Math.floor(Math.hypot(x, y) * COLOURS))]!
    paint.fillRect(x0 + x * scale, y0 + y * scale, size, size)
  }
}

let last = { tick: 0, at: performance.now() }

async function frame(): Promise<void> {
  const bytes = await invoke<ArrayBuffer>('frame')
  if (bytes.byteLength >= HEAD) {
    const head = new BigUint64Array(bytes, 0, 2)
    const bodies = new Float32Array(bytes, HEAD)
    draw(bodies)
    const tick = Number(head[0])
    says('tick', String(tick))
    says('lsn', String(head[1]))
    says('bodies', String(bodies.length / EACH))
    const now = performance.now()
    if (now - last.at > 1000) {
      says('rate', ((1000 * (tick - last.tick)) / (now - last.at)).toFixed(0))
      last = { tick, at: now }
    }
  }
  requestAnimationFrame(() => void frame())
}

/** What is said of an event; nothing of the end of some work, since how it came out was told before. */
function name(event: Event): string | undefined {
  switch (event.type) {
    case 'snapshot-taken':
      return `snapshot ${event.snapshot.number}`
    case 'restored':
      return `restored, LSN ${event.lsn}`
    case 'failed':
      return `${event.task} failed`
    case 'started':
      return `${event.task} began`
    case 'ended':
      return undefined
    default:
      return event.type
  }
}

/** Does what a button says, with a word about how it ended. */
function button(id: string, act: () => Promise<string>): void {
  const it = element<HTMLButtonElement>(id)
  it.onclick = async () => {
    it.disabled = true
    try {
      says('word', await act())
    } catch (error) {
      says('word', error instanceof EcsdbError ? `${error.kind}: ${error.message}` : String(error))
    }
    it.disabled = false
  }
}

button('snapshot', async () => {
  const taken = await createSnapshot({ onProgress: ({ done, total }) => says('word', `${done} of ${total}`) })
  return `Snapshot ${taken.number} has the world at LSN ${taken.lsn}, in ${taken.bytes} bytes.`
})
button('restore', async () => {
  const { number, lsn } = await restoreSnapshot()
  return `The world is that of snapshot ${number} again, by transaction ${lsn}.`
})
button('restart', () => invoke('restart_me'))
button('kill', () => invoke('kill_me'))

const settings = await load('settings.json', { defaults: { starts: 0 } })
const starts = ((await settings.get<number>('starts')) ?? 0) + 1
await settings.set('starts', starts)
says('starts', starts === 1 ? 'once' : `${starts} times`)
says('word', starts === 1 ? 'Kill it, and start it again.' : 'It went on where it was.')
await subscribe((event) => {
  const word = name(event)
  if (word) says('event', word)
})
await frame()
