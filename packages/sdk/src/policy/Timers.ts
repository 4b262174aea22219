/**
 * Many timers, nearly all of which are taken back: every call has a deadline, and hardly any comes. One timer of Node's
 * serves them all, set for the earliest.
 *
 * By the live monotonic clock. Like a timer of Node's, one that waits keeps the process alive.
 */
import { type Dated, Deadlines } from "../internal/Deadlines.ts"

class Timer implements Dated {
  readonly deadline: number
  readonly callback: () => void
  heapIndex = -1

  constructor(deadline: number, callback: () => void) {
    this.deadline = deadline
    this.callback = callback
  }
}

/** The longest that a timer of Node's can wait. */
const longest = 2 ** 31 - 1

const waiting = new Deadlines<Timer>()
/** Stays set when what it was set for is taken back: it is due for somebody soon enough. */
let real: NodeJS.Timeout | undefined
let realAt = Infinity
/** Tests put timers of their own into the place of Node's, and take them away again, with whatever was set there. */
let setBy: typeof setTimeout | undefined

/** A timer that fires early would make a call end before its deadline; one tick late is the promise. */
const arm = (at: number): void => {
  clearTimeout(real)
  realAt = at
  setBy = setTimeout
  real = setTimeout(fire, Math.min(longest, Math.max(0, Math.ceil(at - performance.now()))))
}

const fire = (): void => {
  realAt = Infinity
  try {
    for (let due = waiting.due(performance.now()); due !== undefined; due = waiting.due(performance.now())) {
      waiting.remove(due)
      due.callback()
    }
  } finally {
    // Also after one that threw: the others are not its victims.
    if (waiting.next < realAt) arm(waiting.next)
  }
}

/** Calls back once, at an instant of `performance.now()` or a tick later. Gives what takes the call back. */
export const callAt = (at: number, callback: () => void): (() => void) => {
  const timer = new Timer(at, callback)
  waiting.add(timer)
  if (at < realAt || setBy !== setTimeout) arm(waiting.next)
  else if (waiting.size === 1) real!.ref()
  return () => {
    waiting.remove(timer)
    if (waiting.size === 0) real!.unref()
  }
}
