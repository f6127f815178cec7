// Code for the store plugin goes on to work with another import: as its types say, which the compiler checks, and by what is there at run time.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as theirs from '@tauri-apps/plugin-store'
import * as ours from '../index.js'

/** What is not here, as docs/tauri.md says: named serializers, and the number of a resource. */
type TheirOptions = Omit<NonNullable<Parameters<typeof theirs.load>[1]>, 'serializeFnName' | 'deserializeFnName'>
type TheirStore = Omit<theirs.Store, 'rid'>
const NOT_HERE = ['rid', 'store'] // `store` is a private one.

const like: {
  load: (path: string, options?: TheirOptions) => Promise<TheirStore>
  getStore: (path: string) => Promise<TheirStore | null>
  Store: {
    load: (path: string, options?: TheirOptions) => Promise<TheirStore>
    get: (path: string) => Promise<TheirStore | null>
  }
  LazyStore: new (path: string, options?: TheirOptions) => Pick<theirs.LazyStore, keyof theirs.LazyStore>
} = ours
const reload: (options?: Parameters<theirs.Store['reload']>[0]) => Promise<void> = ours.Store.prototype.reload

/** The names of all that objects of a class have, whatever it extends. */
function members(of: object): string[] {
  return of === Object.prototype ? [] : [...Object.getOwnPropertyNames(of), ...members(Object.getPrototypeOf(of))]
}

test('everything that the store plugin has is here', () => {
  assert(reload)
  assert.deepEqual(Object.keys(theirs).filter((name) => !(name in like)), [])
  for (const name of ['Store', 'LazyStore'] as const) {
    const here = ours[name].prototype
    const missing = members(theirs[name].prototype).filter((member) => !(member in here) && !NOT_HERE.includes(member))
    assert.deepEqual(missing, [], name)
  }
})
