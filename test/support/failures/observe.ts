/** What became of a call, in the three words that a failure scene compares: class, attempts, result. */
import type { ReportError } from "@sluice/sdk"
import * as PolicyEvents from "@sluice/sdk/policy/PolicyEvents"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

export interface Seen {
  /** What `PgFailure` made of the failures on the way; `none` where there were none. */
  readonly class: string
  readonly attempts: number | string
  readonly result: string
}

/** One call of a scene. */
export interface Line {
  readonly case: string
  readonly expected: Seen
  readonly seen: Seen
}

type AnyError = { readonly _tag: string } & Partial<{
  readonly class: string
  readonly sqlState: string
  readonly lastError: ReportError.LastError
}>

const classOf = (error: AnyError): string | undefined => error.class ?? error.lastError?.tag

/** Its tag, and the server's code where there is one. */
export const told = (error: AnyError): string => {
  const code = error.sqlState ?? error.lastError?.sqlState
  return code === undefined ? error._tag : `${error._tag} ${code}`
}

/** Runs a call to its end and says what became of it. `rows`: how its rows are told, by default as JSON. */
export const observe = <A, E extends { readonly _tag: string }, R>(
  call: Effect.Effect<{ readonly rows: ReadonlyArray<A>; readonly attempts: number }, E, R>
): Effect.Effect<Seen & { readonly error: E | undefined }, never, R> =>
  Effect.suspend(() => {
    const kinds: Array<string> = []
    const listener: PolicyEvents.Listener = ({ attributes, event, policy }) => {
      if (policy === "retry" && event === "retry") kinds.push(String(attributes["kind"]))
    }
    return Effect.map(Effect.exit(Effect.provideService(call, PolicyEvents.CurrentListener, listener)), (exit) => {
      const classes = (last?: string) =>
        [...new Set(last === undefined ? kinds : [...kinds, last])].join(", ") || "none"
      if (Exit.isSuccess(exit)) {
        const { attempts, rows } = exit.value
        return { class: classes(), attempts, result: JSON.stringify(rows), error: undefined }
      }
      const found = Cause.findErrorOption(exit.cause)
      if (found._tag === "None") {
        return { class: "defect", attempts: kinds.length + 1, result: Cause.pretty(exit.cause), error: undefined }
      }
      const error = found.value
      return { class: classes(classOf(error)), attempts: kinds.length + 1, result: told(error), error }
    })
  })

/** The words alone, with the result told otherwise if need be. */
export const seen = ({ attempts, class: name, result }: Seen, also?: string): Seen => ({
  class: name,
  attempts,
  result: also === undefined ? result : `${result}; ${also}`
})

/** A number of attempts that may vary, as its range if it lies in it. */
export const within = (attempts: number | string, least: number, most: number): number | string =>
  typeof attempts === "number" && attempts >= least && attempts <= most ? `${least} to ${most}` : attempts
