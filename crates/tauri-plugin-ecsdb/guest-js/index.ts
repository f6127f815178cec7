/**
 * ecsdb in a Tauri application: a durable world, and a store for settings that a power cut takes nothing from.
 *
 * @module
 */

export { EcsdbError, type ErrorKind, type Unlisten } from './call.js'
export * from './store.js'
export * from './world.js'
