/** Log lines among the tables of a command: indented as they are, without the time and the fiber. */
import * as Cause from "effect/Cause"
import * as Logger from "effect/Logger"

const text = (part: unknown): string => (typeof part === "string" ? part : JSON.stringify(part))

export const plainLog = Logger.layer([
  Logger.make(({ cause, logLevel, message }) => {
    const parts = (Array.isArray(message) ? message : [message]).map(text)
    if (cause.reasons.length > 0) parts.push(Cause.pretty(cause))
    console.log(`  ${logLevel.toUpperCase().padEnd(5)}    ${parts.join(" ")}`)
  })
])
