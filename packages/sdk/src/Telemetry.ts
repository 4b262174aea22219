/**
 * The names of metrics, spans and attributes, in one place.
 *
 * OpenTelemetry's names for database clients where it has one, `sluice.*` for the rest. Values of attributes come from
 * declarations (a report's name, a lane, a node), never from parameters, so that the number of series is fixed.
 *
 * | metric | kind | unit | attributes |
 * | --- | --- | --- | --- |
 * | `db.client.connection.count` | gauge | sessions | pool, state (`idle`, `used`) |
 * | `db.client.connection.max` | gauge | sessions | pool |
 * | `db.client.connection.pending_requests` | gauge | callers | pool |
 * | `db.client.connection.timeouts` | counter | calls | pool |
 * | `db.client.connection.create_time` | histogram | s | pool |
 * | `db.client.connection.wait_time` | histogram | s | pool |
 * | `db.client.connection.use_time` | histogram | s | pool |
 * | `db.client.operation.duration` | histogram | s | report, outcome |
 * | `sluice.report.attempts` | histogram | statements sent for a call | report |
 * | `sluice.policy.events` | counter | events | policy, key (a report, pool or node), event |
 * | `sluice.connection.count` | gauge | sessions | pool, state (`connecting`, `draining`) |
 * | `sluice.connection.closed` | counter | sessions | pool, reason |
 * | `sluice.connection.leaks` | counter | sessions | pool |
 * | `sluice.role.up` | gauge | 0 or 1 | role (with `Health`) |
 * | `sluice.node.up` | gauge | 0 or 1 | node (with `Health`) |
 * | `sluice.node.lag` | gauge | s | node (with `Health`) |
 * | `sluice.health.ready` | gauge | 0 or 1 | (with `Health`) |
 *
 * | span | attributes, besides report, lane and outcome |
 * | --- | --- |
 * | `report NAME` | source, attempts: statements that were sent |
 * | `transaction NAME` | attempts: how often it was begun; each is a span `sql.transaction` of Effect's client |
 * | `attempt NAME` | attempt (from 1), source, node, SQLSTATE, milliseconds: acquire, statement, decode |
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"

/** Attribute names. */
export const attributes = {
  pool: "db.client.connection.pool.name",
  state: "db.client.connection.state",
  system: "db.system.name",
  node: "server.address",
  report: "sluice.report",
  lane: "sluice.lane",
  outcome: "sluice.outcome",
  source: "sluice.source",
  attempt: "sluice.attempt",
  attempts: "sluice.attempts",
  sqlState: "db.response.status_code",
  acquireMillis: "sluice.acquire_millis",
  statementMillis: "sluice.statement_millis",
  decodeMillis: "sluice.decode_millis",
  policy: "sluice.policy",
  event: "sluice.event",
  key: "sluice.key",
  reason: "sluice.reason"
} as const

/** OpenTelemetry's advised boundaries for database clients, in seconds. */
const secondBoundaries = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60]

type Attributes = Readonly<Record<string, string>>

const caches: Array<Map<string, unknown>> = []

/** Same name and attributes, same metric: the maps are bounded because attribute values come from declarations, and servers are forgotten. */
const cached = <A>(
  make: (name: string, attributes: Attributes) => A
): ((name: string, attributes: Attributes) => A) => {
  const known = new Map<string, A>()
  caches.push(known)
  return (name, attributes) => {
    const id = `${name} ${JSON.stringify(attributes)}`
    let metric = known.get(id)
    if (metric === undefined) known.set(id, (metric = make(name, attributes)))
    return metric
  }
}

/** A histogram of seconds. */
export const duration = cached((name, attributes) =>
  Metric.histogram(name, { attributes, boundaries: secondBoundaries })
)

/** A histogram of small whole numbers. */
export const distribution = cached((name, attributes) =>
  Metric.histogram(name, { attributes, boundaries: [0, 1, 2, 3, 4, 5, 8] })
)

export const counter = cached((name, attributes) => Metric.counter(name, { attributes, incremental: true }))

export const gauge = cached((name, attributes) => Metric.gauge(name, { attributes }))

/** Ends the series that have this attribute: a server that is gone is no server at zero. */
export const forget = (context: Context.Context<never>, attribute: string, value: string): void => {
  const own = `${JSON.stringify(attribute)}:${JSON.stringify(value)}`
  for (const known of caches) for (const id of known.keys()) if (id.includes(own)) known.delete(id)
  const registry = Context.get(context, Metric.MetricRegistry)
  for (const [key, { attributes }] of registry) {
    if ((attributes as Attributes | undefined)?.[attribute] === value) registry.delete(key)
  }
}

/** Whether calls are measured. Default `true`; a benchmark of your own may want to know what it costs. */
export const Enabled: Context.Reference<boolean> = Context.Reference("@sluice/sdk/Telemetry/Enabled", {
  defaultValue: () => true
})

/** The span of a call. */
export const callSpan = (report: string): string => `report ${report}`

/** The span of a declared transaction. */
export const transactionSpan = (transaction: string): string => `transaction ${transaction}`

/** The span of one attempt of a call. */
export const attemptSpan = (report: string): string => `attempt ${report}`
