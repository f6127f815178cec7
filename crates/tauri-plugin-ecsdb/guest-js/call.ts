// A call of the plugin, and what it fails with.

import { Channel, invoke } from '@tauri-apps/api/core'

/**
 * What may be done about an error:
 * `call` and `config` (correct what was asked for), `not-found`, `denied` (the page has no permission, which the text names), `closed`, `disk-full` (free space,
 * and restart the application), `reopen` (restart it), `retry`, `damaged`, `cancelled`, `bug`; and those of opening.
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
    const refused = EcsdbError.of(error)
    // What Tauri cannot bring across comes back as a text about bytes of its own.
    const why = refused.kind === 'bug' && unsendable(args, command, 0)
    throw why ? new EcsdbError('call', why, { cause: error }) : refused
  }
}

/** Objects and lists in one another that come across, the arguments themselves among them. */
const DEPTH_MAX = 127

/** What in a value cannot be sent, and where it is. */
function unsendable(value: unknown, where: string, depth: number): string | undefined {
  if (typeof value === 'bigint') return `${where}: a BigInt is no JSON: send it as text`
  if (typeof value === 'string' && /\p{Surrogate}/u.test(value)) {
    return `${where}: the text has half a character in it (a surrogate without the other)`
  }
  if (typeof value !== 'object' || value === null) return undefined
  if (depth === DEPTH_MAX) {
    return `${where}: more than ${DEPTH_MAX - 1} objects and lists are in one another, or one is in itself`
  }
  for (const [key, inner] of Object.entries(value)) {
    const place = depth < 4 ? `${where}${depth === 0 ? ': ' : '.'}${key}` : where
    const why = unsendable(key, place, DEPTH_MAX) ?? unsendable(inner, place, depth + 1)
    if (why !== undefined) return why
  }
  return undefined
}

/** Somebody who listens, until they do not want to any more. */
export interface Heard {
  /** The channel that they hear by, as an argument of the given name; nothing where nobody listens. */
  readonly args: Record<string, unknown>
  /** From now on they are told nothing, whatever is still on its way. */
  end(): void
}

/** A channel to the function, where there is one. Whoever listens, listens through this. */
export function heard<T>(name: string, listener: ((message: T) => void) | undefined): Heard {
  let told = listener
  return {
    // An error of the listener's is one that nobody catches, and the channel goes on: Tauri sees to that since 2.12.3.
    args: listener ? { [name]: new Channel<T>((message) => told?.(message)) } : {},
    end() {
      told = undefined
    },
  }
}

/** Ends a subscription: nothing is told once it was called. */
export type Unlisten = () => Promise<void>
