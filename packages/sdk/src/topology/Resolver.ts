/**
 * How a name is looked up, where every address of a name is a server of its own (`addresses: "each"`).
 *
 * By default as the system does it (`getaddrinfo`: /etc/hosts, DNS, its order of addresses). Of a name with addresses of
 * both families only those of the first one's family count: the others are usually the same servers once more, and
 * RFC 6724 puts the family that works first. A resolver of yours may say otherwise: all that it gives are used.
 *
 * @example
 * ```ts
 * const known = new Map([["db.internal", ["10.0.0.1", "10.0.0.2"]]])
 * const ours = Layer.succeed(Resolver.Current, { lookup: (name) => Effect.succeed(known.get(name) ?? []) })
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { lookup } from "node:dns"

export interface Resolver {
  /** All addresses of a name. None counts as a failure, and after a failure what was known before holds. */
  readonly lookup: (name: string) => Effect.Effect<ReadonlyArray<string>, unknown>
}

export const system: Resolver = {
  lookup: (name) =>
    Effect.callback((resume) => {
      lookup(name, { all: true, verbatim: true }, (error, found) => {
        if (error !== null) return resume(Effect.fail(error))
        resume(Effect.succeed(found.filter(({ family }) => family === found[0]?.family).map(({ address }) => address)))
      })
    })
}

/** The resolver in force. Default: {@link system}. */
export const Current: Context.Reference<Resolver> = Context.Reference("@sluice/sdk/topology/Resolver", {
  defaultValue: (): Resolver => system
})

/**
 * Whether this is a name that may lead to several servers: not an address, nor the directory of a socket, nor `localhost`,
 * which is this machine whatever it is called (RFC 6761).
 */
export const isName = (host: string): boolean =>
  host !== "localhost" && !host.startsWith("/") && !host.includes(":") && !/^[\d.]+$/.test(host)
