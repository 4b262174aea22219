/** What may be left behind: timers, listeners, heap. Counted before anybody connects, and after everybody has left. */
import * as v8 from "node:v8"
import * as vm from "node:vm"

const collect = ((): (() => void) => {
  v8.setFlagsFromString("--expose-gc")
  return vm.runInNewContext("gc") as () => void
})()

/** Bytes in use after everything that nobody holds is gone. */
export const heapUsed = async (): Promise<number> => {
  for (let turn = 0; turn < 3; turn++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return process.memoryUsage().heapUsed
}

/** Counts the timers that were set since and have neither rung nor been cleared. */
export const watchTimers = () => {
  const { clearInterval, clearTimeout, setInterval, setTimeout } = globalThis
  const set = new Map<unknown, string>()
  const place = () => (new Error().stack ?? "").split("\n").slice(3, 7).join(" <") // who set it
  const setting = (original: (...args: Array<any>) => any, once: boolean) =>
    Object.assign(
      (callback: (...args: Array<any>) => void, ...rest: Array<any>) => {
        const timer = original(
          (...args: Array<any>) => {
            if (once) set.delete(timer)
            callback(...args)
          },
          ...rest
        )
        set.set(timer, traced ? place() : "")
        return timer
      },
      // `util.promisify` finds its own version here.
      Object.fromEntries(Object.getOwnPropertySymbols(original).map((key) => [key, (original as any)[key]]))
    )
  const clearing = (original: (timer: any) => void) => (timer: unknown) => {
    set.delete(timer)
    original(timer)
  }
  let traced = false
  Object.assign(globalThis, {
    setTimeout: setting(setTimeout, true),
    setInterval: setting(setInterval, false),
    clearTimeout: clearing(clearTimeout),
    clearInterval: clearing(clearInterval)
  })
  return {
    count: () => set.size,
    /** From now on, who sets a timer is remembered: for the end, where few are set. */
    trace: () => void (traced = true),
    places: () => [...set.values()],
    restore: () => void Object.assign(globalThis, { clearInterval, clearTimeout, setInterval, setTimeout })
  }
}

interface Emitter {
  readonly eventNames: () => ReadonlyArray<string | symbol>
  readonly listenerCount: (name: string | symbol) => number
}

const listenersOf = (emitter: Emitter): number =>
  emitter.eventNames().reduce((sum, name) => sum + emitter.listenerCount(name), 0)

/** Listeners on the process, and the most on any open socket. */
export const listeners = (): { readonly process: number; readonly socket: number } => {
  const handles = (process as unknown as { _getActiveHandles: () => ReadonlyArray<unknown> })._getActiveHandles()
  const emitters = handles.filter(
    (handle): handle is Emitter => typeof (handle as Partial<Emitter> | null)?.eventNames === "function"
  )
  return { process: listenersOf(process), socket: Math.max(0, ...emitters.map(listenersOf)) }
}

/** Warnings of Node that an emitter has too many listeners. */
export const watchWarnings = () => {
  let count = 0
  const warned = ({ name }: Error) => {
    if (name === "MaxListenersExceededWarning") count++
  }
  process.on("warning", warned)
  return { count: () => count, stop: () => void process.off("warning", warned) }
}
