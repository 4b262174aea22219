/** Workers that call again and again, one call at a time each, and can be held for a while. */

export interface Options {
  readonly workers: number
  readonly call: (worker: number) => Promise<void>
  /** Milliseconds between two calls of a worker: who failed at once does not come back at once. */
  readonly rest: (worker: number) => number
}

export const closedLoop = ({ call, rest, workers }: Options) => {
  const pending = new Set<Promise<void>>()
  const state = { running: true }
  let paused: Promise<void> | undefined
  let resume = () => {}

  const worker = async (_: unknown, index: number) => {
    while (state.running) {
      if (paused !== undefined) await paused
      if (!state.running) return
      const one = call(index)
      pending.add(one)
      await one
      pending.delete(one)
      await new Promise((resolve) => setTimeout(resolve, rest(index)))
    }
  }
  const all = Array.from({ length: workers }, worker)

  const goOn = () => {
    paused = undefined
    resume()
  }
  return {
    /** No new calls until `resume`; waits for those that run. */
    pause: async () => {
      paused = new Promise((resolve) => (resume = resolve))
      await Promise.all(pending)
    },
    resume: goOn,
    /** No new calls; waits for those that run. */
    stop: async () => {
      state.running = false
      goOn()
      await Promise.all(all)
    }
  }
}
