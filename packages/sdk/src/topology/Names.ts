/**
 * Keeps the servers of names: looks names up on a schedule and when a server is lost, adds the addresses that have appeared,
 * and removes those that are gone.
 *
 * - A server that is new is looked at before those that are gone take no more work, so that no caller falls in between.
 * - A name that cannot be looked up, or leads nowhere, keeps the servers that it had. If it never had any it is a server
 *   itself, so that callers are told why nobody answers.
 * - A session is bound to the address it was opened to, for its life; so is the cancellation of what runs on it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { nameOf, type Place } from "../DatabaseOptions.ts"
import { apart } from "../internal/apart.ts"
import * as Probe from "./Probe.ts"
import type { Resolver } from "./Resolver.ts"

export interface Options {
  readonly resolver: Resolver
  /** When to look up again. Default every 15 seconds (PgBouncer's `dns_max_ttl`), jittered. */
  readonly schedule?: Schedule.Schedule<unknown> | undefined
  /** The same while a lookup fails or a server is lost. Default every second, jittered. */
  readonly scheduleUnwell?: Schedule.Schedule<unknown> | undefined
  readonly isWell: () => boolean
  /** What there is of a server: `draining` takes no more work and will be `absent`. */
  readonly has: (name: string) => "present" | "draining" | "absent"
  readonly add: (place: Place) => Effect.Effect<void>
  readonly look: (name: string) => Effect.Effect<void>
  /** Begins to remove a server, unless that has begun, and returns. */
  readonly remove: (name: string) => Effect.Effect<void>
  /** A lookup failed, or succeeds again. */
  readonly onLookup: (name: string, ok: boolean) => void
}

export interface Names {
  /** Follows a name from now on. Returns when its servers are there. */
  readonly follow: (place: Place) => Effect.Effect<void>
  /** Follows it no more, and removes its servers. `false`: it is no name that is followed. */
  readonly forget: (name: string) => Effect.Effect<boolean>
  /** Look up as soon as may be. */
  readonly trigger: () => void
}

/** The longest a lookup may take: the system's resolver may ask several servers, one after the other. */
const timeout = Duration.seconds(2)

/** Between the beginnings of two lookups, however many servers are lost. */
const minGap = Duration.millis(250)

const isAddress = (address: unknown): boolean => typeof address === "string" && address !== ""

export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Names, never, Scope.Scope> {
  const { add, has, look, onLookup, remove, resolver } = options
  const followed = new Map<string, Place>()
  /** The servers of each name. */
  const servers = new Map<string, Set<string>>()
  const failing = new Set<string>()
  const one = Semaphore.makeUnsafe(1)

  // A resolver is somebody else's: it may throw, hang, or give what is no address (an empty one would be this machine).
  const lookup = (place: Place): Effect.Effect<ReadonlyArray<string>> => {
    const asked = apart(Effect.suspend(() => resolver.lookup(place.host)))
    const found = Effect.timeoutOrElse(asked, { duration: timeout, orElse: () => Effect.succeed([]) })
    return Effect.map(Effect.exit(found), (exit) =>
      Exit.isSuccess(exit) && Array.isArray(exit.value) ? [...new Set(exit.value)].filter(isAddress) : []
    )
  }

  const settle = Effect.fnUntraced(function* (place: Place, found: ReadonlyArray<string>) {
    const name = nameOf(place)
    const own = servers.get(name)
    if (own === undefined) return
    const ok = found.length > 0
    if (ok === failing.has(name)) onLookup(place.host, ok)
    if (ok) failing.delete(name)
    else failing.add(name)
    if (!ok && own.size > 0) return
    const places = ok ? found.map((address) => ({ ...place, address })) : [place]
    const wanted = new Set(places.map(nameOf))
    const fresh: Array<string> = []
    for (const each of places) {
      const server = nameOf(each)
      own.add(server)
      if (has(server) !== "absent") continue
      yield* add(each)
      fresh.push(server)
    }
    // One that is wanted again is still taking its leave: those in its place stay until it can be had.
    if (places.some((each) => has(nameOf(each)) === "draining")) return
    const gone = [...own].filter((server) => !wanted.has(server))
    if (gone.length > 0) yield* Effect.forEach(fresh, look, { concurrency: "unbounded", discard: true })
    for (const server of gone) {
      own.delete(server)
      yield* remove(server)
    }
  })

  const renew = (place: Place): Effect.Effect<void> =>
    Effect.flatMap(lookup(place), (found) => one.withPermits(1)(Effect.uninterruptible(settle(place, found))))

  const probe = yield* Probe.make({
    look: Effect.suspend(() => Effect.forEach(followed.values(), renew, { concurrency: "unbounded", discard: true })),
    timeout: Duration.seconds(10),
    minGap,
    schedule: options.schedule ?? Schedule.jittered(Schedule.spaced("15 seconds")),
    scheduleUnwell: options.scheduleUnwell ?? Schedule.jittered(Schedule.spaced("1 second")),
    isWell: () =>
      failing.size === 0 &&
      [...servers.values()].every((own) => [...own].every((server) => has(server) === "present")) &&
      options.isWell(),
    onResult: () => {}
  })

  return {
    follow: (place) =>
      Effect.suspend(() => {
        const name = nameOf(place)
        if (followed.has(name)) return Effect.void
        followed.set(name, place)
        servers.set(name, new Set())
        return renew(place)
      }),
    forget: (name) =>
      Effect.suspend(() => {
        const own = servers.get(name)
        if (own === undefined) return Effect.succeed(false)
        followed.delete(name)
        servers.delete(name)
        failing.delete(name)
        // What is just being added is removed with the others.
        return Effect.as(one.withPermits(1)(Effect.suspend(() => Effect.forEach(own, remove, { discard: true }))), true)
      }),
    trigger: probe.trigger
  }
})
