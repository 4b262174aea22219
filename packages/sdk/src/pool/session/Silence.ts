/**
 * The timer that concludes that a server is silent.
 *
 * A process that was busy finds its timers due before it has read its sockets: the answer may lie there, unread. So time in
 * which this process was away does not count as the server's silence, and before anything is concluded the sockets have
 * one turn of the loop.
 */

/** A timer that is later than this was held up by the process itself. */
const late = 20

/** Calls back once, after `millis` in which the caller did not take it back. Gives what takes it back. */
export const afterSilence = (millis: number, conclude: () => void): (() => void) => {
  let due = 0
  let turn: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  const wait = (length: number): void => {
    due = performance.now() + length
    timer = setTimeout(look, length)
  }
  const look = (): void => {
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
