/**
 * On whose behalf a fiber works, and how much it matters: what a queue, a rate limit and shedding go by.
 *
 * @example
 * ```ts
 * const answer = report.run(params).pipe(Effect.provideService(Caller.Current, { tenant: "acme", priority: Caller.priorities.interactive }))
 * ```
 */
import * as Context from "effect/Context"

/** Higher comes first and is refused last. Any finite number; these are the presets'. */
export const priorities = { batch: 0, report: 50, interactive: 100 } as const

export interface Caller {
  /** Tenants take turns. Default: one tenant for all. */
  readonly tenant: string
  /** Default {@link priorities}.report. */
  readonly priority: number
}

/** The caller of a fiber. */
export const Current: Context.Reference<Partial<Caller>> = Context.Reference("@sluice/sdk/policy/Caller", {
  defaultValue: (): Partial<Caller> => ({})
})
