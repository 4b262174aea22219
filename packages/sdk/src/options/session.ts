/** What one session is told. Whoever opens sessions without a pool gives it itself: a wrong value is a mistake of the program. */
import {
  aFunction,
  checked,
  flag,
  isRecord,
  length,
  made,
  number,
  oneOf,
  redacted,
  text,
  whole,
  wrong
} from "./Field.ts"
import * as role from "./role.ts"

const limit = length({ zero: true, infinite: true })

/** Settings by name; those that a session sets itself are left out of them later. */
const settings = checked<Readonly<Record<string, string>>>((value, name) =>
  isRecord(value)
    ? Object.entries(value).flatMap(([own, one]) =>
        typeof one === "string" && !`${own}${one}`.includes("\0")
          ? []
          : [{ name: `${name}.${own}`, expected: "a text without NUL characters" }]
      )
    : wrong(name, value, 'settings by name, such as { search_path: "tenant" }')
)

const encoding = checked<Readonly<Record<string, string>>>((value, name) => [
  ...settings.check(value, name),
  ...Object.entries(isRecord(value) ? value : {}).flatMap(([own, one]) =>
    own.toLowerCase() === "client_encoding" && !/^utf-?8$/i.test(String(one))
      ? [{ name: `${name}.${own}`, expected: "left out: sessions speak UTF8" }]
      : []
  )
])

export const session = {
  host: text(),
  address: text(),
  port: whole(1, 65_535),
  path: text(),
  database: text(),
  username: text({ required: true }),
  password: redacted<any>({ effect: true }),
  applicationName: text(),
  sslmode: role.common.sslmode,
  ssl: checked<any>((value, name) =>
    isRecord(value) ? [] : wrong(name, value, "an object such as { ca }, or an Effect of it")
  ),
  connectTimeout: length({ infinite: true }),
  keepAlive: limit,
  statementTimeout: limit,
  idleInTransactionTimeout: limit,
  lockTimeout: limit,
  readOnly: flag(),
  settings: encoding,
  pooler: oneOf(["transaction"]),
  prepare: flag(),
  preparedStatements: whole(0, 1_000_000),
  maxMessageSize: whole(1024, 1_073_741_824),
  pipelineDepth: whole(1),
  silence: length({ infinite: true }),
  controlTimeout: length({ infinite: true }),
  commitTimeout: length({ infinite: true }),
  reset: role.common.reset,
  judge: aFunction(),
  validationTimeout: length({ infinite: true }),
  drainTimeout: length({ zero: true, infinite: true }),
  cancelGrace: length({ zero: true, infinite: true }),
  closeTimeout: length({ zero: true, infinite: true }),
  types: role.common.types,
  onNotice: aFunction(),
  unset: text()
} as const

/** What a `SqlClient` over sessions is told. */
export const sqlClient = {
  name: text(),
  config: made<any>([], "an object such as { host, port, database, username }", { required: true }),
  transformResultNames: role.common.transformResultNames,
  transformQueryNames: role.common.transformQueryNames,
  transformJson: flag(),
  spanAttributes: checked<Record<string, unknown>>(role.common.spanAttributes.check),
  statementTimeout: number({ above: 0, below: Infinity }),
  pooler: oneOf(["transaction"])
} as const
