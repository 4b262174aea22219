/**
 * The nodes of one database and what is known of them: evidence in, standings out, changes told.
 *
 * It does no IO. Probes and pools bring evidence by `observed`, `failed` and `revoked`; the router reads the views.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import { monotonicMillis, wallMillis } from "../internal/Monotonic.ts"
import type { LastError } from "../ReportError.ts"
import * as NodeState from "./NodeState.ts"
import * as Router from "./Router.ts"
import * as Standing from "./Standing.ts"

/** What a node brings with it. */
export interface Member {
  readonly name: string
  readonly zone?: string | undefined
  readonly switching?: boolean | undefined
  outstanding(): number
  canServeNow(): boolean
}

/** A node as the router sees it. */
export interface View<M extends Member> extends Router.NodeView {
  readonly member: M
  readonly draining: boolean
}

/** A node went from one state to another. */
export interface Change {
  /** Milliseconds of the wall clock. */
  readonly at: number
  readonly node: string
  readonly kind: "phase" | "role" | "fenced" | "added" | "draining" | "removed"
  readonly from: string
  readonly to: string
  readonly lastError: LastError | undefined
}

class NodeEntry<M extends Member> implements View<M> {
  readonly name: string
  readonly zone: string | undefined
  readonly switching: boolean | undefined
  readonly member: M
  state: NodeState.NodeState
  standing: Standing.Standing = Standing.nothing
  draining = false

  constructor(member: M, now: number) {
    this.name = member.name
    this.zone = member.zone
    this.switching = member.switching
    this.member = member
    this.state = NodeState.initial(now)
  }

  outstanding(): number {
    return this.member.outstanding()
  }

  canServeNow(): boolean {
    return this.member.canServeNow()
  }
}

const shown = (role: NodeState.Role | undefined): string => role ?? "unknown"

/** See the top of this file. */
export class Topology<M extends Member> {
  readonly thresholds: NodeState.Thresholds
  private readonly entries = new Map<string, NodeEntry<M>>()
  private list: ReadonlyArray<NodeEntry<M>> = []
  private readonly noted: Array<Omit<Change, "at"> & { readonly since: number }> = []
  private memory: Standing.Memory = Standing.empty
  private readonly pubsub: PubSub.PubSub<Change>
  private readonly listeners = new Set<(change: Change) => void>()
  private readonly clock: Clock.Clock
  private readonly random: () => number
  private readonly peers: boolean

  constructor(options: {
    readonly thresholds: NodeState.Thresholds
    readonly pubsub: PubSub.PubSub<Change>
    readonly clock: Clock.Clock
    readonly random: () => number
    readonly peers: boolean
  }) {
    this.thresholds = options.thresholds
    this.peers = options.peers
    this.pubsub = options.pubsub
    this.clock = options.clock
    this.random = options.random
  }

  private now(): number {
    return monotonicMillis(this.clock)
  }

  /** The wall time of an instant of a node's state. */
  wallTime(at: number): number {
    return wallMillis(this.clock, at)
  }

  get nodes(): ReadonlyArray<View<M>> {
    return this.list
  }

  /**
   * One server is all there is. Beside one that is no standby, a server that is to be removed or has not answered yet does
   * not count.
   */
  get isAlone(): boolean {
    if (this.list.length === 1) return true
    let alone = false
    for (const { draining, state } of this.list) {
      if (draining || state.observation === undefined) continue
      if (alone || state.observation.inRecovery) return false
      alone = true
    }
    return alone
  }

  get(name: string): View<M> | undefined {
    return this.entries.get(name)
  }

  /** The node that is used as primary, as far as is known. */
  get primary(): View<M> | undefined {
    return this.list.find(({ standing }) => standing.role === "primary" && standing.fenced === undefined)
  }

  add(member: M): void {
    if (this.entries.has(member.name)) return
    const now = this.now()
    this.entries.set(member.name, new NodeEntry(member, now))
    this.list = [...this.entries.values()]
    this.noted.push({
      since: now,
      node: member.name,
      kind: "added",
      from: "absent",
      to: "unknown",
      lastError: undefined
    })
    this.tell()
  }

  /** No new work for it from now on. */
  drain(name: string): void {
    const entry = this.entries.get(name)
    if (entry === undefined || entry.draining) return
    entry.draining = true
    this.noted.push({
      since: this.now(),
      node: name,
      kind: "draining",
      from: entry.state.phase,
      to: "draining",
      lastError: undefined
    })
    this.tell()
  }

  remove(name: string): void {
    const entry = this.entries.get(name)
    if (entry === undefined) return
    this.entries.delete(name)
    this.list = [...this.entries.values()]
    const now = this.now()
    this.noted.push({
      since: now,
      node: name,
      kind: "removed",
      from: entry.state.phase,
      to: "absent",
      lastError: undefined
    })
    this.judge(now)
  }

  /** A look succeeded. */
  observed(name: string, observation: NodeState.Observation): void {
    this.update(name, (state, now) => NodeState.observe(state, observation, now, this.thresholds))
  }

  /** A look failed, or the node cannot be reached. */
  failed(name: string, failure: NodeState.Failure): void {
    this.update(name, (state, now) => NodeState.fail(state, failure, now, this.thresholds))
  }

  /** The node answered that it is not what we thought. */
  revoked(name: string, failure: NodeState.Failure): void {
    this.update(name, (state, now) => NodeState.revoke(state, failure, now))
  }

  /** The best node that is known to fit. The usual way; {@link choose} is for everything else. */
  pick(want: Router.Want, now = this.now()): View<M> | undefined {
    return Router.pick<View<M>>(this.list, want, now, this.thresholds, this.random)
  }

  choose(want: Router.Want): Router.Choice<View<M>> {
    return Router.choose<View<M>>(this.list, want, this.now(), this.thresholds, this.random)
  }

  /** Whether any node fits, busy or not. */
  serves(want: Router.Want): boolean {
    return this.list.some(({ name }) => this.fits(name, want))
  }

  fits(name: string, want: Router.Want): boolean {
    const entry = this.entries.get(name)
    const found = entry === undefined ? "unknown" : Router.fit(entry, want, this.now(), this.thresholds)
    return found === "fits" || found === "fallback"
  }

  untried(want: Router.Want, now = this.now()): number {
    return Router.untried(this.list, want, now, this.thresholds)
  }

  /** Calls back at every change, synchronously, until the function it gives is called. */
  onChange(listener: (change: Change) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  get changes(): Stream.Stream<Change> {
    return Stream.fromPubSub(this.pubsub)
  }

  private update(name: string, f: (state: NodeState.NodeState, now: number) => NodeState.NodeState): void {
    const entry = this.entries.get(name)
    if (entry === undefined) return
    const now = this.now()
    const before = entry.state
    const after = f(before, now)
    if (after === before) return
    entry.state = after
    if (before.phase !== after.phase) {
      const lastError = after.failures > 0 || after.phase === "suspect" ? after.lastError : undefined
      this.noted.push({ since: now, node: name, kind: "phase", from: before.phase, to: after.phase, lastError })
    }
    this.judge(now)
  }

  private judge(now: number): void {
    const states = new Map([...this.entries].map(([name, { state }]) => [name, state] as const))
    const judged = Standing.judge(this.memory, states, now, this.thresholds, this.peers)
    this.memory = judged.memory
    for (const entry of this.list) {
      const before = entry.standing
      const after = judged.standings.get(entry.name) ?? Standing.nothing
      entry.standing = after
      const change = { since: now, node: entry.name, lastError: undefined }
      if (before.role !== after.role)
        this.noted.push({ ...change, kind: "role", from: shown(before.role), to: shown(after.role) })
      if (before.fenced?.reason !== after.fenced?.reason) {
        const from = before.fenced?.reason ?? "in use"
        this.noted.push({ ...change, kind: "fenced", from, to: after.fenced?.reason ?? "in use" })
      }
    }
    this.tell()
  }

  /** Tells what was noted, once all of it is true: nobody sees a node between two states. */
  private tell(): void {
    const changes = this.noted.splice(0)
    for (const { since, ...noted } of changes) {
      const change: Change = { at: this.wallTime(since), ...noted }
      for (const listener of this.listeners) listener(change)
      PubSub.publishUnsafe(this.pubsub, change)
    }
  }
}

/** An empty topology. `random` decides between equals; give one with a seed to repeat what happened. */
export const make = <M extends Member>(options?: {
  readonly thresholds?: Partial<NodeState.Thresholds> | undefined
  readonly random?: (() => number) | undefined
  /** Every server takes everything: none is primary. Default `false`. */
  readonly peers?: boolean | undefined
}): Effect.Effect<Topology<M>> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const pubsub = yield* PubSub.sliding<Change>(1024)
    return new Topology<M>({
      thresholds: { ...NodeState.defaultThresholds, ...options?.thresholds },
      pubsub,
      clock,
      random: options?.random ?? (() => random.nextDoubleUnsafe()),
      peers: options?.peers === true
    })
  })
