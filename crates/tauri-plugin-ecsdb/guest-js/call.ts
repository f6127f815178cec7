// A call of the plugin, and what it fails with.

import { Channel, invoke } from '@tauri-apps/api/core'

/**
 * What may be done about an error:
 * `call` and `config` (correct what was asked for), `not-found`, `denied` (the page has no permission, which the text names), `closed`, `disk-full` (free space),
 * `reopen` (restart the application), `retry`, `damaged`, `cancelled`, `bug`; and those of opening.
 */
export type ErrorKind =
  | 'call'
  | 'denied'
  | 'aborted'
  | 'schema'
  | 'config'
  | 'not-found'
  | 'already-exists'
  | 'unfinished'
  | 'away'
  | 'locked'
  | 'closed'
  | 'disk-full'
  | 'reopen'
  | 'damaged'
  | 'version'
  | 'cancelled'
  | 'retry'
  | 'bug'

/** What every function of this package fails with. */
export class EcsdbError extends Error {
  readonly kind: ErrorKind

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'EcsdbError'
    this.kind = kind
  }

  static of(error: unknown): EcsdbError {
    if (error instanceof EcsdbError) return error
    if (typeof error === 'object' && error !== null && 'kind' in error && 'message' in error) {
      return new EcsdbError(error.kind as ErrorKind, String(error.message))
    }
    const message = error instanceof Error ? error.message : String(error)
    // Tauri itself refuses with a text: the page may not, there is no such plugin, or there is no Tauri at all.
    return new EcsdbError(/\bnot allowed\b/.test(message) ? 'denied' : 'bug', message, { cause: error })
  }
}

export async function call<T>(command: string, args: Record<string, unknown> = {}): Promise<T> {
  try {
    return await invoke<T>(`plugin:ecsdb|${command}`, args)
  } catch (error) {
    throw EcsdbError.of(error)
  }
}

/** A channel to the function, where there is one; as an argument of that name. */
export function heard<T>(name: string, listener: ((message: T) => void) | undefined): Record<string, unknown> {
  return listener ? { [name]: new Channel<T>(listener) } : {}
}

/** Ends a subscription. */
export type Unlisten = () => Promise<void>
