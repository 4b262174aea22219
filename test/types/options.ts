/** A table of options cannot diverge from the type that it is for. */
import type * as Duration from "effect/Duration"
import { aFunction, length, oneOf, type Table, tableOf, text, whole } from "../../packages/sdk/src/options/Field.ts"

interface Options {
  readonly mode: "a" | "b"
  readonly count?: number | undefined
  readonly wait?: Duration.Input | undefined
  readonly hook?: (() => void) | undefined
}

const right = { mode: oneOf(["a", "b"]), count: whole(1), wait: length(), hook: aFunction() }

export const held = tableOf<Options>()(right)
export const written = { ...right } satisfies Table<Options>

const { count: _, ...fewer } = right
// @ts-expect-error a field of the type is not in the table
export const missing = tableOf<Options>()(fewer)
const more = { ...right, misspelt: text() }
// @ts-expect-error a field of the table is not in the type
export const extra = tableOf<Options>()(more)
const other = { ...right, count: text() }
// @ts-expect-error a field takes something else than the type says
export const wrong = tableOf<Options>()(other)
const narrow = { ...right, mode: oneOf(["a"]) }
// @ts-expect-error a word of the type is not taken
export const narrower = tableOf<Options>()(narrow)
const wide = { ...right, mode: oneOf(["a", "b", "c"]) }
// @ts-expect-error a word is taken that the type does not have
export const wider = tableOf<Options>()(wide)
// @ts-expect-error and the same where the table is written
export const literal = { ...right, mode: oneOf(["a", "b", "c"]) } satisfies Table<Options>
