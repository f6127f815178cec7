// The commands of the world. Each call is one transaction, or one look at one moment.

import { call, heard, type Unlisten } from './call.js'

/** How far a piece of work is. */
export interface Progress {
  /** Parts done; what a part is depends on the work: of `verify`, bytes, which are those of snapshots as they are read, and all at the end. */
  done: number
  /** Parts in all; 0 while that is not known. */
  total: number
  /** Bytes written. */
  bytes: number
  /** How long it will still take, once that is known. */
  secondsLeft: number | null
}

/** Whoever wants to know how far it is. */
export interface Followed {
  onProgress?: (progress: Progress) => void
}

/** A snapshot that was taken. */
export interface SnapshotTaken {
  number: number
  lsn: number
  bytes: number
  seconds: number
}

/** A snapshot that can be gone back to. */
export interface Snapshot {
  number: number
  lsn: number
  bytes: number
  /** Milliseconds since 1970, as `Date` takes them. */
  time: number
  /** The snapshot that it is an increment of. */
  incrementOf: number | null
}

/** What a compaction did. */
export interface Compaction {
  number: number
  lsn: number
  bytesBefore: number
  bytesAfter: number
  seconds: number
}

/** What checking found. */
export interface Verified {
  snapshots: number
  segments: number
  bytes: number
  /** The last whole transaction. */
  lastLsn: number
  /** What is damaged or missing; nothing where everything verifies. */
  faults: string[]
  /** What an interrupted write left at the end of the log, which the next opening cuts; nothing that was durable. */
  tornTail: string | null
  /** Snapshots, and what is missing of the archive, that are not where they should be; once they are back, they count again. */
  away: Path[]
  /** One of the two manifests is gone, which the next opening or snapshot makes good. */
  lacksManifest: boolean
  /** Manifests of other databases: move them elsewhere. */
  leftAlone: Path[]
  /** Moments that cannot be gone back to, first and last, for what is damaged. */
  unreachable: { firstLsn: number; lastLsn: number }[]
}

/** A file; with all of its bytes, in hexadecimal, where its name is no Unicode. */
export type Path = string | { text: string; bytes: string }

/** One look at everything. */
export interface Stats {
  entities: number
  liveBytes: number
  memoryBytes: number
  lsn: number
  durableLsn: number
  log: { transactions: number; bytes: number; syncs: number; queuedBytes: number } | null
  files: {
    snapshots: number
    snapshotLsn: number
    snapshotBytes: number
    segments: number
    logBytes: number
    archiveBytes: number
    totalBytes: number
    failures: { task: string; error: string; times: number }[]
  } | null
}

/** Which entities are meant, and what of them is shown. */
export interface Question {
  /** Entities that have these components. */
  with?: string[]
  /** Entities that have none of these. */
  without?: string[]
  /** Entities of which these hold: `game.health.now < 10`. */
  where?: string[]
  /** What is shown: components and fields. All components that are asked for unless said otherwise. */
  select?: string[]
  /** At most so many. */
  limit?: number
}

/** What was found, all at one moment. */
export interface Answer {
  /** The last transaction that it is after. */
  lsn: number
  columns: string[]
  /** `null` is for what an entity does not have; whole numbers beyond 2^53 are text. */
  rows: { entity: string; values: unknown[] }[]
}

/** Sections with settings, as in a configuration file; no directories. */
export type Settings = Record<string, Record<string, unknown>>

/** Which settings changed. */
export interface Changes {
  live: string[]
  atNextOpening: string[]
}

/** Something that happened in the background. */
export type Event =
  | { type: 'missed'; count: number }
  | { type: 'started'; task: string }
  | { type: 'ended'; task: string }
  | { type: 'progress'; task: string; progress: Progress }
  | { type: 'snapshot-taken'; snapshot: SnapshotTaken }
  | { type: 'compacted'; compaction: Compaction }
  | { type: 'copied'; snapshot: SnapshotTaken }
  | { type: 'archived'; segment: number; lsn: number; bytes: number }
  | { type: 'removed'; files: number; bytes: number }
  | { type: 'restored'; lsn: number }
  | { type: 'reconfigured'; live: string[]; atNextOpening: string[] }
  | { type: 'failed'; task: string; error: string; retryInSeconds: number | null }
  | { type: 'other'; text: string }

/** Takes a snapshot of the world as it is now. */
export function createSnapshot(options: Followed = {}): Promise<SnapshotTaken> {
  return call('create_snapshot', heard('onProgress', options.onProgress).args)
}

/** The snapshots that there are, oldest first. */
export function listSnapshots(): Promise<Snapshot[]> {
  return call('list_snapshots')
}

/** Brings the world back to a snapshot, the newest unless said otherwise, as one more transaction. */
export function restoreSnapshot(options: Followed & { number?: number } = {}): Promise<{ number: number; lsn: number }> {
  const which = options.number === undefined ? {} : { number: options.number }
  return call('restore_snapshot', { ...which, ...heard('onProgress', options.onProgress).args })
}

/** Merges log and snapshots into one full snapshot, and frees what that covers. */
export function compact(options: Followed = {}): Promise<Compaction> {
  return call('compact', heard('onProgress', options.onProgress).args)
}

/** Reads and checks every file of the world, while it goes on. */
export function verify(options: Followed = {}): Promise<Verified> {
  return call('verify', heard('onProgress', options.onProgress).args)
}

/** One look at everything. */
export function stats(): Promise<Stats> {
  return call('stats')
}

/** Asks the world. */
export function query(question: Question = {}): Promise<Answer> {
  return call('query', { ...question })
}

/** Changes settings while the world goes on. */
export function reconfigure(settings: Settings): Promise<Changes> {
  return call('reconfigure', { settings })
}

/** Tells of everything that happens in the background from now on, until it is ended or the page goes away. */
export async function subscribe(listener: (event: Event) => void): Promise<Unlisten> {
  const { args, end } = heard('onEvent', listener)
  const id = await call<number>('subscribe', args)
  return async () => {
    end()
    await call('unsubscribe', { id })
  }
}
