/** Where a report was declared: what an error of it shows in place of the SDK's own frames. */
import type { Declared } from "./Declared.ts"

const places = new WeakMap<Declared, string>()

/** This room's folder, and so the SDK's, as frames of a stack name it. */
const sdk = import.meta.url.replace(/^file:\/\//, "").replace(/\/report\/[^/]*$/, "/")

const isOurs = (frame: string): boolean => frame.includes(sdk) || frame.includes("/node_modules/effect/")

/** Notes the first frame that is not the SDK's. Gives `declared`. */
export const notePlace = <D extends Declared>(declared: D): D => {
  const frames = (new Error("declared").stack ?? "").split("\n").slice(1)
  const frame = frames.find((frame) => !isOurs(frame))
  const place = frame === undefined ? undefined : /\(?((?:file:\/\/)?[^\s()]+:\d+:\d+)\)?$/.exec(frame)?.[1]
  if (place !== undefined) places.set(declared, place)
  return declared
}

/** An error of a report, with that place as its stack. */
export const atPlace = <E>(error: E, declared: Declared): E => {
  if (!(error instanceof Error)) return error
  const place = places.get(declared)
  const kind = declared.transaction === undefined ? "report" : "transaction"
  const at = `    at ${kind} ${declared.name}${place === undefined ? "" : ` (${place})`}`
  const value = `${error.name}: ${error.message}\n${at}`
  Object.defineProperty(error, "stack", { value, configurable: true, writable: true })
  return error
}
