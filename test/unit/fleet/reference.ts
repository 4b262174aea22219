/**
 * The rule of confirmed runs as a state machine, position by position: the oracle for the SQL, which is gaps and islands.
 * Written to be read beside the rule, not to be fast.
 */
export interface Fix {
  /** Milliseconds. */
  readonly time: number
  readonly speed: number
  readonly odometer: number
  readonly ignition: boolean | null
}

export interface Rule {
  readonly motionThreshold: number
  readonly minTripDistance: number
  readonly minTripDuration: number
  readonly minParking: number
  readonly silence: number
  readonly useIgnition: boolean
}

export interface Interval {
  readonly moving: boolean
  readonly start: number
  readonly end: number
}

/** What the machine knows after a position. `confirmed` is what the reports show. */
export interface State {
  readonly confirmed: boolean
  readonly run: boolean
  readonly candidate: Fix | undefined
}

export interface Trace {
  readonly intervals: ReadonlyArray<Interval>
  /** The state after each position, in the order of time. */
  readonly states: ReadonlyArray<State>
  readonly fixes: ReadonlyArray<Fix>
}

const inOrder = (fixes: ReadonlyArray<Fix>): ReadonlyArray<Fix> => {
  const sorted = [...fixes].sort((a, b) => a.time - b.time)
  return sorted.filter((fix, index) => index === 0 || fix.time !== sorted[index - 1]!.time)
}

/** How far the vehicle came: an odometer that falls (a device was replaced) adds nothing. */
const withPath = (fixes: ReadonlyArray<Fix>): ReadonlyArray<Fix> => {
  let path = 0
  return fixes.map((fix, index) => {
    path += Math.max(0, fix.odometer - (fixes[index - 1]?.odometer ?? fix.odometer))
    return { ...fix, odometer: path }
  })
}

export const trace = (unordered: ReadonlyArray<Fix>, rule: Rule): Trace => {
  const fixes = withPath(inOrder(unordered))
  const states: Array<State> = []
  const events: Array<{ readonly moving: boolean; readonly at: number }> = []
  let state: State | undefined
  let previous: Fix | undefined

  const next = (fix: Fix, before: State, last: Fix): State => {
    if (fix.time - last.time >= rule.silence && before.confirmed) {
      events.push({ moving: false, at: last.time })
      return { confirmed: false, run: false, candidate: undefined }
    }
    const moving = fix.speed > rule.motionThreshold
    if (moving !== before.run) {
      return { ...before, run: moving, candidate: moving === before.confirmed ? undefined : fix }
    }
    const candidate = before.candidate
    if (candidate === undefined) return before
    const lasted = fix.time - candidate.time
    const confirms = moving
      ? lasted >= rule.minTripDuration || fix.odometer - candidate.odometer >= rule.minTripDistance
      : lasted >= rule.minParking || (rule.useIgnition && fix.ignition === false)
    if (!confirms) return before
    events.push({ moving, at: candidate.time })
    return { confirmed: moving, run: moving, candidate: undefined }
  }

  for (const fix of fixes) {
    if (state === undefined || previous === undefined) {
      const moving = fix.speed > rule.motionThreshold
      state = { confirmed: moving, run: moving, candidate: undefined }
      events.push({ moving, at: fix.time })
    } else {
      state = next(fix, state, previous)
    }
    states.push(state)
    previous = fix
  }

  const end = previous?.time ?? 0
  const intervals = events
    .map(({ at, moving }, index): Interval => ({ moving, start: at, end: events[index + 1]?.at ?? end }))
    .filter((interval) => interval.end > interval.start)
  return { intervals, states, fixes }
}

export interface Episode {
  readonly start: number
  readonly end: number
}

/**
 * Runs of positions for which something holds. A gap longer than `maxGap` ends one at its last position; otherwise it ends
 * at the first position for which it no longer holds, or at the last one of all.
 */
export const episodes = (
  unordered: ReadonlyArray<Fix>,
  holds: (fix: Fix) => boolean,
  maxGap: number
): ReadonlyArray<Episode> => {
  const fixes = inOrder(unordered)
  const found: Array<Episode> = []
  let start: number | undefined
  for (const [index, fix] of fixes.entries()) {
    if (!holds(fix)) continue
    start ??= fix.time
    const next = fixes[index + 1]
    const silent = next === undefined || next.time - fix.time > maxGap
    if (silent || !holds(next)) {
      found.push({ start, end: silent ? fix.time : next.time })
      start = undefined
    }
  }
  return found
}
