/** Connection strings, by libpq's documentation: each part is taken, or the whole is refused with the cure; nothing of it is told. */
import { assert, describe, it } from "@effect/vitest"
import * as DatabaseConfig from "@sluice/sdk/DatabaseConfig"
import * as DatabaseOptions from "@sluice/sdk/DatabaseOptions"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { inspect } from "node:util"
import { fuzz, type Random, random } from "../support/random.ts"

const read = (url: string, options: DatabaseOptions.Options = {}) =>
  DatabaseOptions.resolve("fleet/primary", { url: Redacted.make(url), ...options })

const told = (url: string): string => {
  const result = read(url)
  if (Result.isFailure(result)) return `refused: ${result.failure.message}`
  const { applicationName, hosts, name, password, sslmode, user } = result.success
  const secret = Redacted.isRedacted(password) ? `:${String(Redacted.value(password))}` : ""
  const servers = hosts.map(({ address, host, port }) => `${host}${address === undefined ? "" : `=${address}`} ${port}`)
  const rest = [sslmode === "prefer" ? "" : sslmode, applicationName ?? ""].filter((part) => part !== "")
  return [`${user}${secret}`, servers.join(","), name, ...rest].join(" | ")
}

/** The examples of libpq's documentation (connection URIs, keyword and value strings), and what follows from its grammar. */
const good: ReadonlyArray<readonly [string, string]> = [
  ["postgresql://", "postgres | localhost 5432 | postgres"],
  ["postgresql://localhost", "postgres | localhost 5432 | postgres"],
  ["postgresql://localhost:5433", "postgres | localhost 5433 | postgres"],
  ["postgresql://localhost/mydb", "postgres | localhost 5432 | mydb"],
  ["postgresql://user@localhost", "user | localhost 5432 | user"],
  ["postgresql://user:secret@localhost", "user:secret | localhost 5432 | user"],
  ["postgresql://other@localhost/otherdb?application_name=a", "other | localhost 5432 | otherdb | a"],
  ["postgresql://host1:123,host2:456/somedb", "postgres | host1 123,host2 456 | somedb"],
  ["postgresql://host1,host2/somedb?port=123", "postgres | host1 123,host2 123 | somedb"],
  ["postgresql:///mydb?host=localhost&port=5433", "postgres | localhost 5433 | mydb"],
  ["postgresql://user@localhost:5433/mydb?sslmode=require", "user | localhost 5433 | mydb | require"],
  ["postgresql://[2001:db8::1234]/database", "postgres | 2001:db8::1234 5432 | database"],
  ["postgresql://[2001:db8:1:2:3:4:5:6]:5433/d", "postgres | 2001:db8:1:2:3:4:5:6 5433 | d"],
  ["postgresql://[fe80::1%25eth0]/d", "postgres | fe80::1%eth0 5432 | d"],
  ["postgresql://%2Fvar%2Flib%2Fpostgresql/dbname", "postgres | /var/lib/postgresql 5432 | dbname"],
  ["postgresql:///dbname?host=/var/lib/postgresql", "postgres | /var/lib/postgresql 5432 | dbname"],
  ["postgresql://h/d?user=u&password=p%26q", "u:p&q | h 5432 | d"],
  ["postgresql://u@h?dbname=d", "u | h 5432 | d"],
  ["postgresql://u@/d?host=a,b&hostaddr=10.0.0.1,10.0.0.2&port=1,2", "u | a=10.0.0.1 1,b=10.0.0.2 2 | d"],
  ["postgres://u:a,b@h/d", "u:a,b | h 5432 | d"],
  ["postgres://u:a@b@h/d", "u:a@b | h 5432 | d"],
  ["postgres://u:a?b@h/d", "u:a?b | h 5432 | d"],
  ["postgres://u:a#b@h/d", "u:a#b | h 5432 | d"],
  ["postgres://u:a:b@h/d", "u:a:b | h 5432 | d"],
  ["postgres://u:a%2Fb%25@h/d", "u:a/b% | h 5432 | d"],
  ["postgres://u:%C3%A4@h/%E2%82%AC", "u:\u00e4 | h 5432 | \u20ac"],
  [
    "host=localhost port=5432 dbname=mydb connect_timeout=10",
    "refused: fleet/primary: url: must be written without the parameter connect_timeout (the option connectTimeout)"
  ],
  ["host=localhost port=5433 dbname=mydb user = u", "u | localhost 5433 | mydb"],
  ["user=u password='it\\'s a \\\\ b' host='h'", "u:it's a \\ b | h 5432 | u"],
  ["  host=h   dbname=''  user=u ", "u | h 5432 | u"]
]

const refused: ReadonlyArray<readonly [string, RegExp]> = [
  ["http://h/d", /postgres:\/\/user:password@host:port\/name, or pairs/],
  ["h", /postgres:\/\/user:password@host:port\/name, or pairs/],
  ["", /postgres:\/\/user:password@host:port\/name, or pairs/],
  ["postgres://u:50%off@h/d", /%25 for a % in the password/],
  ["postgres://u%:p@h/d", /%25 for a % in the user's name/],
  ["postgres://u:p@h/100%", /%25 for a % in the database's name/],
  ["postgres://u:%ff@h/d", /the password in UTF-8/],
  ["postgres://u:p%00q@h/d", /without a NUL character in the password/],
  ["postgres://u:p/q@h/d", /without an @ behind the hosts/],
  ["postgres://u:p@h/d?application_name=a@b", /without an @ behind the hosts/],
  ["postgres://u:p@h:70000/d", /a port from 1 to 65535/],
  ["postgres://u:p@h:x/d", /hosts and ports such as/],
  ["postgres://u:p@[::1/d", /hosts and ports such as/],
  ["postgres://u:p@[nonsense]/d", /names or addresses as hosts/],
  ["postgres://u:p@a,,b/d", /a host on both sides of each comma/],
  ["postgres://u:p@a,b:1/d?port=1,2,3", /the parameter port once|one port, or one for each host/],
  ["postgres://u:p@h/d?sslmode", /parameters such as sslmode=require/],
  ["postgres://u:p@h/d?user=other", /the parameter user once/],
  ["postgres://u:p@h/d?aplication_name=x", /did you mean application_name\?/],
  ["postgres://u:p@h/d?q7w8e9=x", /without parameters other than host/],
  ["postgres://u:p@h/d?sslmode=maybe", /sslmode/],
  ["host=h hostaddr=a.b.c", /addresses in hostaddr, not names/],
  ["host=h password='open", /written in pairs/],
  ...[
    "channel_binding=require",
    "require_auth=md5",
    "connect_timeout=3",
    "target_session_attrs=read-write",
    "options=-csearch_path%3Dx",
    "schema=x",
    "search_path=x",
    "sslrootcert=/x",
    "gssencmode=require",
    "service=x",
    "passfile=/x",
    "pgbouncer=true",
    "connection_limit=1",
    "pool_mode=transaction",
    "keepalives=1",
    "client_encoding=latin1"
  ].map(
    (pair) =>
      [`postgres://u:p@h/d?${pair}`, new RegExp(`without the parameter ${pair.split("=")[0]} \\(.+\\)`)] as const
  )
]

describe("a connection string", () => {
  it.each(good)("%s", (url, expected) => assert.strictEqual(told(url), expected))

  it.each(refused)("%s is refused", (url, expected) => {
    assert.match(told(url), /^refused: /)
    assert.match(told(url), expected)
  })

  it("is refused where what enters the startup packet holds a NUL, wherever it comes from", () => {
    const fields = ["user", "name", "applicationName", "host"] as const
    for (const field of fields) {
      const result = DatabaseOptions.resolve("fleet/primary", { [field]: "a\0user\0postgres" })
      assert.include(Result.isFailure(result) ? result.failure.message : "taken", `${field}: must be`)
    }
    for (const [name, value] of [
      ["search_path", "a\0b"],
      ["a\0b", "c"],
      ["application_name", "x"],
      ["user", "x"],
      ["x y", "z"]
    ] as const) {
      const result = DatabaseOptions.resolve("fleet/primary", { startupParameters: { [name]: value } })
      assert.isTrue(Result.isFailure(result), name)
    }
    assert.isTrue(Result.isFailure(DatabaseOptions.resolve("fle\0et/primary", {})))
  })

  it("asks for a verified server where certificates are given, unless it is said otherwise", () => {
    const tls = {}
    const modeOf = (options: DatabaseOptions.Options) => {
      const result = DatabaseOptions.resolve("fleet/primary", options)
      return Result.isSuccess(result) ? result.success.sslmode : result.failure.message
    }
    assert.strictEqual(modeOf({}), "prefer")
    assert.strictEqual(modeOf({ tls }), "verify-full")
    assert.strictEqual(modeOf({ tls, sslmode: "prefer" }), "prefer")
    assert.strictEqual(modeOf({ tls, url: Redacted.make("postgres://h?sslmode=require") }), "require")
    assert.match(modeOf({ tls: { ca: "nope" } }), /tls.ca: must be certificates in PEM/)
    assert.match(modeOf({ tls: { cert: "nope", key: Redacted.make("nope") } }), /tls.cert: .*tls.key: /)
    assert.notInclude(modeOf({ tls: { key: Redacted.make("hunter2") } }), "hunter2")
  })

  const { runs, seed } = fuzz(300)
  const title = `made from parts comes back as those parts; damaged, nothing of its password is told: ${runs} runs from SLUICE_FUZZ_SEED=${seed}`

  it.effect(title, () =>
    Effect.gen(function* () {
      for (let run = 0; run < runs; run++) yield* one(random(seed + run))
    })
  )
})

const pieces = [
  "a",
  "Z",
  "9",
  "@",
  ":",
  "/",
  "?",
  "#",
  "%",
  ",",
  "&",
  "=",
  "+",
  " ",
  "'",
  "\\",
  "[",
  "]",
  "\u00e4",
  "\u{1f600}",
  "-",
  "."
]

const one = (of: Random) =>
  Effect.gen(function* () {
    const word = (least: number) => Array.from({ length: least + of.below(12) }, () => of.pick(pieces)).join("")
    const password = `${word(8)}${of.below(1e6)}`
    const [user, name] = [word(1), word(1)]
    const hosts = Array.from({ length: 1 + of.below(3) }, (_, index) =>
      of.pick([`h${index}.example`, `10.0.${index}.1`, `[::${index + 1}]`])
    )
    const ports = hosts.map(() => 1 + of.below(65_535))
    const encode = encodeURIComponent
    const url = `postgres://${encode(user)}:${encode(password)}@${hosts.map((host, index) => `${host}:${ports[index]}`).join(",")}/${encode(name)}?application_name=${encode(user)}`
    const result = read(url)
    if (Result.isFailure(result)) return yield* Effect.die(new Error(`${url}: ${result.failure.message}`))
    const { hosts: seen, ...rest } = result.success
    assert.deepStrictEqual(
      [rest.user, Redacted.value(rest.password as Redacted.Redacted), rest.name, rest.applicationName],
      [user, password, name, user]
    )
    assert.deepStrictEqual(
      seen.map(({ host, port }) => `${host}:${port}`),
      hosts.map((host, index) => `${host.replace(/^\[(.*)\]$/, "$1")}:${ports[index]}`)
    )
    // Damaged: a letter dropped, doubled, put in; or the password as a person types it.
    const at = of.below(url.length)
    const damaged = of.pick([
      url.slice(0, at) + url.slice(at + 1),
      url.slice(0, at) + of.pick(pieces) + url.slice(at),
      url.replace(encode(password), password),
      url.replace("@", ""),
      `host=h user=u password=${password}`
    ])
    const parts = Array.from({ length: password.length - 4 }, (_, index) => password.slice(index, index + 5))
    const leaves: Array<string> = []
    const direct = read(damaged)
    if (Result.isFailure(direct)) {
      const { failure } = direct
      leaves.push(
        failure.message,
        String(failure.stack),
        inspect(failure, { depth: 9, showHidden: true }),
        JSON.stringify(failure)
      )
    }
    const loaded = yield* Effect.exit(
      Effect.provideService(
        DatabaseConfig.load("fleet/primary", { dotEnv: false }),
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromEnvRecord({ DATABASE_URL: damaged })
      )
    )
    if (loaded._tag === "Failure") leaves.push(String(loaded.cause), inspect(loaded, { depth: 9 }))
    for (const text of leaves) for (const part of parts) assert.notInclude(text, part, damaged)
  })
