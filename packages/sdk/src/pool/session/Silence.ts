/**
 * The timer that concludes that a server is silent.
 *
 * A process that was busy finds its timers due before it has read its sockets: the answer may lie there, unread. So time in
 * which this process was away does not count as the server's silence, and before anything is concluded the sockets have
 * one turn of the loop.
 */

/** A timer that is later than this was held up by the process itself. */
const late = 20

/** The longest that a timer of Node's can wait. */
const longest = 2 ** 31 - 1

/** Calls back once, after `millis` in which the caller did not take it back. Gives what takes it back. */
export const afterSilence = (millis: number, conclude: () => void): (() => void) => {
  let due = 0
  let turn: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  let rest = 0
  const wait = (length: number): void => {
    const part = Math.min(length, longest)
    rest = length - part
    due = performance.now() + part
    timer = setTimeout(look, part)
  }
  const look = (): void => {
    if (rest > 0) return wait(rest)
    const away = performance.now() - due
    if (away > late) return wait(Math.min(away, millis))
    // The sockets are read between the timers and this.
    turn = setImmediate(conclude)
  }
  wait(millis)
  return () => {
    clearTimeout(timer)
    clearImmediate(turn)
  }
}
