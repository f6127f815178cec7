import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'

import { EcsdbError, LazyStore, Store, getStore, load } from '../index.js'
import { answers, calls, mock, send, uncaught } from './plugin.js'

const LOADED = { isNew: true, imported: 2, refused: null }

beforeEach(() => {
  mock()
  answers.set('store_load', () => LOADED)
})

test('each call is the command of its name', async () => {
  const store = await load('s.json', { defaults: { a: 1 }, autoSave: 100 })
  assert.deepEqual(store.loaded, LOADED)
  answers.set('store_has', () => true).set('store_delete', () => false)
  answers.set('store_keys', () => ['a', 'b']).set('store_values', () => [1, 2]).set('store_length', () => 2)
  answers.set('store_entries', () => [['a', 1], ['b', 2]])
  await store.set('b', { x: [1] })
  assert.equal(await store.has('a'), true)
  assert.equal(await store.delete('c'), false)
  assert.deepEqual(await store.keys(), ['a', 'b'])
  assert.deepEqual(await store.values<number>(), [1, 2])
  const entries: [string, number][] = await store.entries<number>()
  assert.deepEqual(entries, [['a', 1], ['b', 2]])
  assert.equal(await store.length(), 2)
  await store.clear()
  await store.reset()
  await store.save()
  await store.reload()
  const s = { store: 's.json' }
  assert.deepEqual(calls, [
    ['store_load', { ...s, options: { defaults: { a: 1 } } }],
    ['store_set', { ...s, key: 'b', value: { x: [1] } }],
    ['store_has', { ...s, key: 'a' }],
    ['store_delete', { ...s, key: 'c' }],
    ['store_keys', s],
    ['store_values', s],
    ['store_entries', s],
    ['store_length', s],
    ['store_clear', s],
    ['store_reset', s],
    ['store_save', s],
  ])
})

test('a value that is null is there, and one that is not there is undefined', async () => {
  const store = await Store.load('s.json')
  answers.set('store_get', ({ key }) => ({ exists: key === 'null', value: null }))
  assert.equal(await store.get<string>('null'), null)
  assert.equal(await store.get<string>('nothing'), undefined)
})

test('a store that was never loaded is none', async () => {
  answers.set('store_is_known', ({ store }) => store === 'known')
  assert.equal(await getStore('unknown'), null)
  assert.equal((await Store.get('known'))?.name, 'known')
})

test('changes are told until they are not wanted', async () => {
  const store = await Store.load('s.json')
  answers.set('store_watch', () => 7)
  answers.set('store_unwatch', () => true)
  const all: unknown[] = []
  const some: unknown[] = []
  const unlisten = await store.onChange((key, value) => all.push([key, value]))
  await store.onKeyChange<number>('a', (value) => some.push(value))
  const channels = calls.filter(([command]) => command === 'store_watch').map(([, args]) => args['onChange'])
  for (const channel of channels) {
    // Messages that overtook one another are put in order.
    send(channel, 1, '{ "key": "b", "value": 2, "exists": true }')
    send(channel, 0, '{ "key": "a", "value": 1, "exists": true }')
    send(channel, 2, '{ "key": "a", "value": null, "exists": false }')
  }
  assert.deepEqual(all, [['a', 1], ['b', 2], ['a', undefined]])
  assert.deepEqual(some, [1, undefined])
  await unlisten()
  await unlisten()
  await store.close()
  assert.equal(calls.filter(([command]) => command === 'store_unwatch').length, 2)
})

test('an error of a listener is the page\'s, and ends nothing', async () => {
  const store = await Store.load('s.json')
  answers.set('store_watch', () => 7)
  const told: unknown[] = []
  await store.onKeyChange<number>('a', (value) => {
    told.push(value)
    if (value === 1 || value === 2) throw new Error(`mine ${value}`)
  })
  const channel = calls.at(-1)![1]['onChange']
  const errors = await uncaught(() => {
    for (const [index, value] of [[0, 1], [2, 3], [1, 2], [3, 4]] as [number, number][]) {
      send(channel, index, JSON.stringify({ key: 'a', value, exists: true }))
    }
  })
  assert.deepEqual(told, [1, 2, 3, 4])
  assert.deepEqual(errors.map((e) => (e as Error).message), ['mine 1', 'mine 2'])
})

test('whoever listens no more is told nothing, not even what is on its way', async () => {
  const store = await Store.load('s.json')
  answers.set('store_watch', () => 7)
  const told: unknown[] = []
  const change = (value: unknown) => JSON.stringify({ key: 'a', value, exists: true })
  const unlisten = await store.onChange((_, value) => {
    told.push(value)
    // Also from within, before it was told that it ended.
    if (value === 2) void unlisten()
  })
  const channel = calls.at(-1)![1]['onChange']
  send(channel, 0, change(1))
  send(channel, 2, change(3))
  send(channel, 1, change(2))
  assert.deepEqual(told, [1, 2])
  const others: unknown[] = []
  await store.onChange((_, value) => others.push(value))
  const other = calls.at(-1)![1]['onChange']
  const closed = store.close()
  send(other, 0, change(4))
  await closed
  assert.deepEqual(others, [])
})

test('errors say what may be done', async () => {
  const store = await Store.load('s.json')
  answers.set('store_set', () => {
    throw { kind: 'disk-full', message: 'no space' }
  })
  await assert.rejects(store.set('a', 1), (e) => e instanceof EcsdbError && e.kind === 'disk-full' && e.message === 'no space')
  answers.set('store_clear', () => {
    throw 'ecsdb.store_clear not allowed'
  })
  await assert.rejects(store.clear(), (e) => e instanceof EcsdbError && e.kind === 'denied')
  // No denial is what is anything else.
  for (const other of ['plugin ecsdb not found', new TypeError('x is undefined'), undefined]) {
    answers.set('store_clear', () => {
      throw other
    })
    await assert.rejects(store.clear(), (e) => e instanceof EcsdbError && e.kind === 'bug' && e.cause === other)
  }
})

test('what cannot be sent is told with its place', async () => {
  const store = await Store.load('s.json')
  // As Tauri does of bytes that are no JSON of its own.
  answers.set('store_set', ({ value }) => {
    JSON.stringify(value)
    throw 'lone leading surrogate in hex escape at line 1 column 46'
  })
  const cyclic: Record<string, unknown> = {}
  cyclic['c'] = cyclic
  let deep: unknown = 1
  for (let i = 0; i < 200; i++) deep = [deep]
  for (const [value, wanted] of [
    ['x\ud800', /^store_set: value: .*half a character/],
    [{ a: ['\udc00'] }, /^store_set: value\.a\.0: .*half a character/],
    [{ '\ud800x': 1 }, /^store_set: value\..*half a character/],
    [[{ n: 1n }], /^store_set: value\.0\.n: .*BigInt/],
    [cyclic, /^store_set: value\.c\.c\.c: more than 126/],
    [deep, /^store_set: value\.0\.0\.0: more than 126/],
  ] as [unknown, RegExp][]) {
    await assert.rejects(
      store.set('k', value),
      (e) => e instanceof EcsdbError && e.kind === 'call' && wanted.test(e.message) && e.cause !== undefined,
    )
  }
  await assert.rejects(store.set('\udfff', 1), (e) => e instanceof EcsdbError && /^store_set: key: /.test(e.message))
  // Whatever else it is.
  await assert.rejects(store.set('k', '😀'), (e) => e instanceof EcsdbError && e.kind === 'bug')
})

test('serializers cannot be named', async () => {
  for (const name of ['serializeFnName', 'deserializeFnName']) {
    await assert.rejects(load('s.json', { [name]: 'mine' }), (e) => e instanceof EcsdbError && e.kind === 'call')
  }
  assert.deepEqual(calls, [])
})

test('a lazy store is loaded once, and again where that failed', async () => {
  const store = new LazyStore('s.json', { createNew: true })
  assert.equal(calls.length, 0)
  answers.set('store_load', () => {
    throw { kind: 'retry', message: 'busy' }
  })
  await assert.rejects(store.init())
  answers.set('store_load', () => LOADED)
  await Promise.all([store.set('a', 1), store.set('b', 2)])
  assert.equal(calls.filter(([command]) => command === 'store_load').length, 2)
  await store.close()
})
