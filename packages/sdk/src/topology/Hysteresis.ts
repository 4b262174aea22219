/**
 * A yes or no that does not flap: it turns only after the other answer has held for a while, each way with a time of its
 * own. Pure, with the time given.
 */

export interface Hysteresis {
  /** What is told. */
  readonly value: boolean
  /** Since when. */
  readonly since: number
  /** Since when the last answers differ from what is told. `undefined`: they agree. */
  readonly contraryAt: number | undefined
}

export interface Hold {
  /** How long "yes" has to hold until it is told. Milliseconds. */
  readonly riseMillis: number
  /** How long "no" has to hold until it is told. Milliseconds. */
  readonly fallMillis: number
}

export const initial = (value: boolean, now: number): Hysteresis => ({ value, since: now, contraryAt: undefined })

/** One more answer. Gives the same object if nothing changes. */
export const step = (state: Hysteresis, answer: boolean, now: number, hold: Hold): Hysteresis => {
  if (answer === state.value) return state.contraryAt === undefined ? state : { ...state, contraryAt: undefined }
  const contraryAt = state.contraryAt ?? now
  if (now - contraryAt >= (answer ? hold.riseMillis : hold.fallMillis)) return initial(answer, now)
  return state.contraryAt === undefined ? { ...state, contraryAt } : state
}
