// A store of settings. Each call is one transaction, on stable storage when its promise is kept.

import { EcsdbError, call, heard, type Unlisten } from './call.js'

/** How a store is loaded. */
export interface StoreOptions {
  /** Values for keys that are not there; and what `reset` goes back to. */
  defaults?: Record<string, unknown>
  /** Throws away what is there, and takes the defaults. An older store's file is not taken over, then or later. */
  createNew?: boolean
  /** Takes what is there, if there is something, without the defaults. */
  overrideDefaults?: boolean
  /** Without meaning here: nothing is ever left to be saved. */
  autoSave?: boolean | number
  /** Not supported, and an error: values are kept as JSON. */
  serializeFnName?: never
  /** Not supported, and an error: values are kept as JSON. */
  deserializeFnName?: never
}

/** How a store is read again. */
export interface ReloadOptions {
  /** Without meaning here. */
  ignoreDefaults?: boolean
}

/** What loading found. */
export interface Loaded {
  /** There was no store of the name. */
  isNew: boolean
  /** So many entries were taken over from an older store's file. */
  imported: number | null
  /** Why an older store's file was not taken over, where there is one. */
  refused: string | null
}

interface Change {
  key: string
  value: unknown
  exists: boolean
}

/** Keys and JSON values, in a database. Any number of windows may use one store at once. */
export class Store {
  /** The name, a plain file name. */
  readonly name: string
  /** What loading found; not known of a store that this page did not load. */
  readonly loaded: Loaded | undefined
  readonly #listeners = new Set<Unlisten>()

  private constructor(name: string, loaded?: Loaded) {
    this.name = name
    this.loaded = loaded
  }

  /** Makes the store if it is not there, and fills in the defaults. The first time it takes over the JSON file of the name, if there is one. */
  static async load(name: string, options: StoreOptions = {}): Promise<Store> {
    const { autoSave: _, serializeFnName, deserializeFnName, ...rest } = options
    if (serializeFnName !== undefined || deserializeFnName !== undefined) {
      throw new EcsdbError('call', 'values are kept as JSON: no other serializer can be named')
    }
    return new Store(name, await call<Loaded>('store_load', { store: name, options: rest }))
  }

  /** The store, if it was loaded since the application was started, by whichever window; else `load` it, with its defaults. */
  static async get(name: string): Promise<Store | null> {
    return (await call<boolean>('store_is_known', { store: name })) ? new Store(name) : null
  }

  #call<T>(command: string, args: Record<string, unknown> = {}): Promise<T> {
    return call(`store_${command}`, { store: this.name, ...args })
  }

  /** Sets the value of a key. */
  set(key: string, value: unknown): Promise<void> {
    return this.#call('set', { key, value })
  }

  /** The value of a key; `undefined` where it is not there. */
  async get<T>(key: string): Promise<T | undefined> {
    const { exists, value } = await this.#call<{ exists: boolean; value: T }>('get', { key })
    return exists ? value : undefined
  }

  /** Whether the key is there. */
  has(key: string): Promise<boolean> {
    return this.#call('has', { key })
  }

  /** Deletes a key; false where it is not there. */
  delete(key: string): Promise<boolean> {
    return this.#call('delete', { key })
  }

  /** All keys, sorted. */
  keys(): Promise<string[]> {
    return this.#call('keys')
  }

  /** All values, in the order of their keys. */
  values<T>(): Promise<T[]> {
    return this.#call('values')
  }

  /** All keys with their values, sorted by the keys, as they were at one moment. */
  entries<T>(): Promise<[key: string, value: T][]> {
    return this.#call('entries')
  }

  /** How many keys there are. */
  length(): Promise<number> {
    return this.#call('length')
  }

  /** Deletes all keys. */
  clear(): Promise<void> {
    return this.#call('clear')
  }

  /** Goes back to the defaults that it was first loaded with since the application was started; without any it is as `clear`. */
  reset(): Promise<void> {
    return this.#call('reset')
  }

  /** Nothing has to be saved. This waits until whatever anybody set is on stable storage. */
  save(): Promise<void> {
    return this.#call('save')
  }

  /** Nothing has to be read again: every look is at what there is, with and without `ignoreDefaults`. */
  async reload(_options?: ReloadOptions): Promise<void> {}

  /** Tells of changes of a key, each once it is durable; `undefined` for a deletion. */
  onKeyChange<T>(key: string, listener: (value: T | undefined) => void): Promise<Unlisten> {
    return this.onChange<T>((changed, value) => {
      if (changed === key) listener(value)
    })
  }

  /** Tells of changes of all keys, by whichever window, in the order of their transactions, each once it is durable. */
  async onChange<T>(listener: (key: string, value: T | undefined) => void): Promise<Unlisten> {
    const tell = (text: string) => {
      const { key, value, exists }: Change = JSON.parse(text)
      listener(key, exists ? (value as T) : undefined)
    }
    const { args, end } = heard('onChange', tell)
    const id = await this.#call<number>('watch', args)
    const unlisten = async () => {
      end()
      if (this.#listeners.delete(unlisten)) await call('store_unwatch', { id })
    }
    this.#listeners.add(unlisten)
    return unlisten
  }

  /** Ends what this object listens to. The store stays. */
  async close(): Promise<void> {
    await Promise.all([...this.#listeners].map((unlisten) => unlisten()))
  }

  /** As `close`, at the end of `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** As `Store.load`. */
export function load(name: string, options?: StoreOptions): Promise<Store> {
  return Store.load(name, options)
}

/** As `Store.get`. */
export function getStore(name: string): Promise<Store | null> {
  return Store.get(name)
}

/** A store that is loaded when it is first used. */
export class LazyStore {
  readonly #name: string
  readonly #options: StoreOptions | undefined
  #store: Promise<Store> | undefined

  constructor(name: string, options?: StoreOptions) {
    this.#name = name
    this.#options = options
  }

  #loaded(): Promise<Store> {
    // One that failed is tried again.
    this.#store ??= Store.load(this.#name, this.#options).catch((error: unknown) => {
      this.#store = undefined
      throw error
    })
    return this.#store
  }

  async init(): Promise<void> {
    await this.#loaded()
  }
  async set(key: string, value: unknown): Promise<void> {
    return (await this.#loaded()).set(key, value)
  }
  async get<T>(key: string): Promise<T | undefined> {
    return (await this.#loaded()).get<T>(key)
  }
  async has(key: string): Promise<boolean> {
    return (await this.#loaded()).has(key)
  }
  async delete(key: string): Promise<boolean> {
    return (await this.#loaded()).delete(key)
  }
  async keys(): Promise<string[]> {
    return (await this.#loaded()).keys()
  }
  async values<T>(): Promise<T[]> {
    return (await this.#loaded()).values<T>()
  }
  async entries<T>(): Promise<[key: string, value: T][]> {
    return (await this.#loaded()).entries<T>()
  }
  async length(): Promise<number> {
    return (await this.#loaded()).length()
  }
  async clear(): Promise<void> {
    return (await this.#loaded()).clear()
  }
  async reset(): Promise<void> {
    return (await this.#loaded()).reset()
  }
  async save(): Promise<void> {
    return (await this.#loaded()).save()
  }
  async reload(options?: ReloadOptions): Promise<void> {
    return (await this.#loaded()).reload(options)
  }
  async onKeyChange<T>(key: string, listener: (value: T | undefined) => void): Promise<Unlisten> {
    return (await this.#loaded()).onKeyChange(key, listener)
  }
  async onChange<T>(listener: (key: string, value: T | undefined) => void): Promise<Unlisten> {
    return (await this.#loaded()).onChange(listener)
  }
  async close(): Promise<void> {
    await (await this.#store)?.close()
  }
}
