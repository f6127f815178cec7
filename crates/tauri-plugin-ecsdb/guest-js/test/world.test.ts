import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'

import * as ecsdb from '../index.js'
import { answers, calls, mock, send, uncaught } from './plugin.js'

beforeEach(mock)

test('each function is the command of its name', async () => {
  answers.set('query', () => ({ lsn: 3, columns: ['a.b'], rows: [{ entity: '0v1', values: [1] }] }))
  await ecsdb.createSnapshot()
  await ecsdb.listSnapshots()
  await ecsdb.restoreSnapshot()
  await ecsdb.restoreSnapshot({ number: 4 })
  await ecsdb.compact()
  await ecsdb.verify()
  await ecsdb.stats()
  const answer: ecsdb.Answer = await ecsdb.query({ where: ['a.b > 0'], limit: 1 })
  assert.deepEqual(answer.rows[0]?.values, [1])
  await ecsdb.reconfigure({ snapshot: { interval: '1h' } })
  assert.deepEqual(calls, [
    ['create_snapshot', {}],
    ['list_snapshots', {}],
    ['restore_snapshot', {}],
    ['restore_snapshot', { number: 4 }],
    ['compact', {}],
    ['verify', {}],
    ['stats', {}],
    ['query', { where: ['a.b > 0'], limit: 1 }],
    ['reconfigure', { settings: { snapshot: { interval: '1h' } } }],
  ])
})

test('whoever asks is told how far it is', async () => {
  const told: number[] = []
  answers.set('create_snapshot', ({ onProgress }) => {
    send(onProgress, 0, { done: 1, total: 2, bytes: 10, secondsLeft: null })
    send(onProgress, 1, { done: 2, total: 2, bytes: 20, secondsLeft: 0 })
    return { number: 1, lsn: 2, bytes: 20, seconds: 0.1 }
  })
  const taken = await ecsdb.createSnapshot({ onProgress: ({ done }) => told.push(done) })
  assert.deepEqual([told, taken.number], [[1, 2], 1])
})

test('events are told until they are not wanted', async () => {
  answers.set('subscribe', () => 5)
  const told: string[] = []
  const unlisten = await ecsdb.subscribe((event) => told.push(event.type))
  send(calls[0]![1]['onEvent'], 0, { type: 'restored', lsn: 9 })
  await unlisten()
  assert.deepEqual(told, ['restored'])
  assert.deepEqual(calls.at(-1), ['unsubscribe', { id: 5 }])
})

test('an error of whoever listens ends neither what is told nor the work', async () => {
  answers.set('subscribe', () => 5)
  const told: unknown[] = []
  const unlisten = await ecsdb.subscribe((event) => {
    told.push(event.type)
    throw new Error('mine')
  })
  const channel = calls.at(-1)![1]['onEvent']
  answers.set('compact', ({ onProgress }) => {
    for (const done of [1, 2]) send(onProgress, done - 1, { done, total: 2, bytes: 0, secondsLeft: null })
    return {}
  })
  let compacted: Promise<unknown> | undefined
  const errors = await uncaught(() => {
    for (const index of [0, 1]) send(channel, index, { type: 'restored', lsn: 9 })
    compacted = ecsdb.compact({
      onProgress({ done }) {
        told.push(done)
        throw new Error('mine')
      },
    })
  })
  await compacted
  assert.deepEqual(told, ['restored', 'restored', 1, 2])
  assert.equal(errors.length, 4)
  const ended = unlisten()
  send(channel, 2, { type: 'restored', lsn: 9 })
  await ended
  assert.equal(told.length, 4)
})
