/**
 * Reports that belong together: a catalogue of what they can cost, and a layer that refuses what cannot hold.
 *
 * ```ts
 * const reports = ReportGroup.make("fleet").add(stoppage, trips)
 * const live = ReportGroup.layer(reports) // fails with InvalidDeclarations when a service starts, not at nine o'clock
 * console.log(ReportGroup.catalogue(reports))
 * ```
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { RoleService } from "./Database.ts"
import { laneProblem } from "./report/Bound.ts"
import { permitsIn } from "./report/Declared.ts"
import * as Report from "./Report.ts"
import { InvalidDeclarations } from "./ReportError.ts"

export interface ReportGroup<out Id extends string, in out Reports extends Report.Any = never> {
  readonly id: Id
  readonly reports: { readonly [R in Reports as R["name"]]: R }
  /** Adds reports. A name that is taken already throws. */
  add<const Added extends readonly [Report.Any, ...Array<Report.Any>]>(
    ...reports: Added
  ): ReportGroup<Id, Reports | Added[number]>
}

/** The reports of a group. */
export type Reports<Group> = Group extends ReportGroup<infer _Id, infer R> ? R : never

type RoleOf<R> = R extends { readonly "~Role": infer Role } ? Role : never

export const make = <const Id extends string>(id: Id): ReportGroup<Id> => proto(id, {}) as unknown as ReportGroup<Id>

const proto = <Id extends string>(id: Id, reports: Readonly<Record<string, Report.Any>>): ReportGroup<Id, any> => ({
  id,
  reports,
  add: (...added: ReadonlyArray<Report.Any>) => {
    const all = new Map(Object.entries(reports))
    for (const report of added) {
      if (all.has(report.name)) throw new Error(`Group "${id}" has a report "${report.name}" already`)
      all.set(report.name, report)
    }
    return proto(id, Object.fromEntries(all))
  }
})

/** Every report of the group, explained, as Markdown. */
export const catalogue = (group: ReportGroup<string, any>): string =>
  [`## ${group.id}`, ...listOf(group).map(Report.explainMarkdown)].join("\n\n")

const listOf = (group: ReportGroup<string, any>): ReadonlyArray<Report.Any> => Object.values(group.reports)

type Issue = InvalidDeclarations["issues"][number]

/**
 * Checks the declarations of a group against each other and against the pools that they will run in.
 *
 * Fails with `InvalidDeclarations`, which names every report, what cannot hold, and the cure.
 */
export const layer = <Id extends string, R extends Report.Any>(
  group: ReportGroup<Id, R>
): Layer.Layer<never, InvalidDeclarations, RoleOf<R>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const issues: Array<Issue> = []
      const roles = new Set<RoleService>()
      for (const report of listOf(group)) {
        const role: RoleService = yield* report.declared.database as Context.Key<never, RoleService>
        roles.add(role)
        issues.push(...alone(report), ...inPool(report, role))
      }
      issues.push(...(yield* onServers(roles)))
      if (issues.length > 0) return yield* new InvalidDeclarations({ group: group.id, issues })
    })
  ) as Layer.Layer<never, InvalidDeclarations, RoleOf<R>>

/** What a declaration contradicts by itself, as `explain` says it. */
const alone = (report: Report.Any): ReadonlyArray<Issue> =>
  Report.explain(report).contradictions.map((one) => ({ subject: `report ${report.name}`, ...one }))

/** What a declaration asks of its pool. */
const inPool = (report: Report.Any, role: RoleService): ReadonlyArray<Issue> => {
  const { bulkhead, lane } = report.declared
  const { lanes, maxConnections } = role.options
  const subject = `report ${report.name}`
  const issues: Array<Issue> = []
  const wrong = laneProblem(report.declared, role)
  if (wrong !== undefined) issues.push({ subject, ...wrong })
  const cap = Math.min(lanes[lane]?.cap ?? maxConnections, maxConnections)
  const permits = bulkhead === undefined ? 0 : permitsIn(bulkhead, maxConnections)
  if (permits > cap) {
    issues.push({
      subject,
      problem: `its bulkhead lets ${permits} in, and lane ${lane} of ${role.name} has ${cap} sessions at most`,
      cure: `declare at most ${cap} permits, or a larger lane or pool`
    })
  }
  return issues
}

/** What the pools together ask of a server. A server that cannot be asked now is not a contradiction. */
const onServers = Effect.fnUntraced(function* (roles: ReadonlySet<RoleService>) {
  const limits = new Map<string, { wanted: number; names: Array<string>; role: RoleService }>()
  for (const role of roles) {
    for (const node of role.nodes) {
      const stats = yield* node.pool.stats
      const known = limits.get(node.name)
      if (known === undefined) limits.set(node.name, { wanted: stats.limit, names: [role.name], role })
      else {
        known.wanted += stats.limit
        known.names.push(role.name)
      }
    }
  }
  const issues: Array<Issue> = []
  for (const [node, { names, role, wanted }] of limits) {
    const allowed = yield* allowedBy(role)
    if (allowed === undefined || wanted <= allowed) continue
    issues.push({
      subject: `pools ${names.join(" and ")}`,
      problem: `together they may open ${wanted} sessions, and ${node} allows ${allowed}`,
      cure: "lower maxConnections, or raise max_connections of the server"
    })
  }
  return issues
})

const allowedBy = (role: RoleService): Effect.Effect<number | undefined> =>
  role.sql<{ readonly allowed: number }>`
    select (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int) as allowed`.pipe(
    Effect.timeout("2 seconds"),
    Effect.map((rows) => rows[0]?.allowed),
    Effect.catch(() => Effect.succeed(undefined))
  )
