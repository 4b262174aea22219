/**
 * Many timers, nearly all of which are taken back: every call has a deadline, and hardly any comes. One timer of Node's
 * serves them all, set for the earliest; taking one back only marks it. Deadlines come mostly in the order in which they
 * were set, so that setting one is an append.
 *
 * By the live monotonic clock. Like a timer of Node's, one that waits keeps the process alive.
 */
interface Timer {
  readonly at: number
  callback: (() => void) | undefined
}

/** The longest that a timer of Node's can wait. */
const longest = 2 ** 31 - 1

/** A heap by `at`, with those that were taken back still in it. */
let heap: Array<Timer> = []
let waiting = 0
let real: NodeJS.Timeout | undefined
let realAt = Infinity

const push = (timer: Timer): void => {
  let index = heap.length
  heap.push(timer)
  while (index > 0) {
    const parent = (index - 1) >> 1
    if (heap[parent]!.at <= timer.at) break
    heap[index] = heap[parent]!
    index = parent
  }
  heap[index] = timer
}

const pop = (): Timer => {
  const top = heap[0]!
  const last = heap.pop()!
  const length = heap.length
  if (length > 0) {
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= length) break
      if (child + 1 < length && heap[child + 1]!.at < heap[child]!.at) child++
      if (heap[child]!.at >= last.at) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
  }
  return top
}

/** A timer that fires early would make a call end before its deadline; one tick late is the promise. */
const arm = (at: number): void => {
  if (real !== undefined) clearTimeout(real)
  realAt = at
  real = setTimeout(fire, Math.min(longest, Math.max(0, Math.ceil(at - performance.now()))))
}

const fire = (): void => {
  real = undefined
  realAt = Infinity
  try {
    for (;;) {
      while (heap.length > 0 && heap[0]!.callback === undefined) pop()
      if (heap.length === 0 || heap[0]!.at > performance.now()) return
      const timer = pop()
      const due = timer.callback!
      timer.callback = undefined
      waiting--
      due()
    }
  } finally {
    // Also after one that threw: the others are not its victims.
    while (heap.length > 0 && heap[0]!.callback === undefined) pop()
    if (heap.length > 0 && heap[0]!.at < realAt) arm(heap[0]!.at)
  }
}

/** Those that were taken back are thrown out when they are the most, so that a busy hour is not remembered for long. */
const tidy = (): void => {
  const kept = heap.filter((timer) => timer.callback !== undefined)
  heap = []
  for (const timer of kept) push(timer)
}

/** Timers that are kept, those that were taken back included. */
export const size = (): number => heap.length

/** Calls back once, at an instant of `performance.now()` or a tick later. Gives what takes the call back. */
export const callAt = (at: number, callback: () => void): (() => void) => {
  const timer: Timer = { at, callback }
  push(timer)
  if (at < realAt) arm(at)
  else if (waiting === 0) real!.ref()
  waiting++
  return () => {
    if (timer.callback === undefined) return
    timer.callback = undefined
    if (--waiting === 0) real?.unref()
    if (heap.length > 256 + 4 * waiting) tidy()
  }
}
