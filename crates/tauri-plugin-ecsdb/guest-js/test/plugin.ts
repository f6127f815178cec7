// The plugin as these tests have it: a store in memory behind Tauri's own mocked calls.

import { mockIPC } from '@tauri-apps/api/mocks'
import type { Channel, InvokeArgs } from '@tauri-apps/api/core'

Object.assign(globalThis, { window: globalThis })

type Args = Record<string, any>

/** Every call, in order. */
export const calls: [command: string, args: Args][] = []

/** What the next calls answer with, by command; a thrown value is the error. */
export const answers = new Map<string, (args: Args) => unknown>()

export function mock(): void {
  calls.length = 0
  answers.clear()
  mockIPC((command: string, args?: InvokeArgs) => {
    const short = command.replace('plugin:ecsdb|', '')
    calls.push([short, (args ?? {}) as Args])
    return answers.get(short)?.((args ?? {}) as Args)
  })
}

/** What nobody catches while this runs, and soon after. */
export async function uncaught(run: () => void): Promise<unknown[]> {
  const errors: unknown[] = []
  process.setUncaughtExceptionCaptureCallback((error) => errors.push(error))
  try {
    run()
    await new Promise((resolve) => setTimeout(resolve, 5))
  } finally {
    process.setUncaughtExceptionCaptureCallback(null)
  }
  return errors
}

/** A message through a channel, as Rust sends it. */
export function send(channel: Channel<unknown>, index: number, message: unknown): void {
  const internals = (globalThis as any).__TAURI_INTERNALS__
  internals.runCallback(channel.id, { index, message })
}
