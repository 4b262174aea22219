/**
 * What of the changes of servers a log tells, and how loudly. A server that stops serving is a warning; one that serves
 * again, or as something else, is information; how it was found at first, and a single look that failed, are details.
 */
import type { Change } from "./Topology.ts"

export interface Line {
  readonly level: "Debug" | "Info" | "Warn"
  readonly text: string
}

/** Tells the changes of one database. It remembers what each server was last, so that a role that is merely confirmed is a detail. */
export const make = (database: string): ((change: Change) => Line) => {
  const roles = new Map<string, string>()

  const role = ({ from, node, to }: Change): Line => {
    const last = roles.get(node)
    if (to === "unknown") return { level: "Debug", text: `${node} is not known to be a ${from} any more` }
    roles.set(node, to)
    if (last === undefined) return { level: "Debug", text: `${node} is a ${to}` }
    if (last === to) return { level: "Debug", text: `${node} is a ${to} as before` }
    return { level: "Info", text: `${node} was a ${last} and is a ${to} now` }
  }

  const phase = ({ from, lastError, node, to }: Change): Line => {
    const why = lastError === undefined ? "" : ` (${lastError.tag}: ${lastError.message})`
    if (to === "down") return { level: "Warn", text: `${node} is down${why}` }
    if (to === "up" && (from === "returning" || from === "down")) return { level: "Info", text: `${node} is up again` }
    return { level: "Debug", text: `${node}: ${from} -> ${to}${why}` }
  }

  const line = (change: Change): Line => {
    const { from, kind, node, to } = change
    switch (kind) {
      case "role":
        return role(change)
      case "phase":
        return phase(change)
      case "fenced":
        return to === "in use"
          ? { level: "Info", text: `${node} is used again (it was fenced: ${from})` }
          : { level: "Warn", text: `${node} is fenced, nothing is sent to it (${to})` }
      case "draining":
        return { level: "Info", text: `${node} takes no new work and will be removed` }
      case "removed":
        roles.delete(node)
        return { level: "Debug", text: `${node} is removed` }
      case "added":
        return { level: "Debug", text: `${node} is added` }
    }
  }

  return (change) => {
    const { level, text } = line(change)
    return { level, text: `${database}: ${text}` }
  }
}
