/** All rows, in the order in which they run. */
import type { Row } from "../Row.ts"
import { decode, decodeQuery } from "./decode.ts"
import { large } from "./large.ts"
import { pipeline, policies } from "./policies.ts"
import * as pool from "./pool.ts"
import { promises } from "./promises.ts"
import { recovery } from "./recovery.ts"
import { bundleSize, coldStart, importTime } from "./startup.ts"
import * as topology from "./topology.ts"

export const rows: ReadonlyArray<Row> = [
  pool.select,
  pool.lease,
  pool.reportOverPool,
  pool.perQuery,
  pool.transaction,
  pool.shared,
  pool.acquire,
  pool.five,
  pool.roundTrips,
  pool.transactionRoundTrips,
  pipeline,
  policies,
  topology.routing,
  topology.snapshot,
  decode,
  decodeQuery,
  ...large,
  coldStart,
  importTime,
  ...bundleSize,
  ...recovery,
  ...promises
]
