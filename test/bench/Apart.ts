/**
 * Subjects in processes of their own that take turns. A service runs one client; in one process with a dozen others its code is
 * compiled for all of them at once, which costs those most that are made of many small functions.
 */
import { type ChildProcess, fork } from "node:child_process"
import * as path from "node:path"
import { root } from "./Child.ts"
import type { Asks, Told } from "./worker.ts"
import type { Subject } from "./Subject.ts"

const children = new Map<string, Promise<ChildProcess>>()

const next = (child: ChildProcess): Promise<Told> =>
  new Promise((resolve, reject) => {
    const heard = (told: Told): void => {
      child.off("exit", ended)
      resolve(told)
    }
    const ended = (code: number | null): void => {
      child.off("message", heard)
      reject(new Error(`its process ended with ${code}`))
    }
    child.once("message", heard).once("exit", ended)
  })

const start = async (subject: Subject, options: string, node: ReadonlyArray<string>): Promise<ChildProcess> => {
  const child = fork(path.join(root, "test/bench/worker.ts"), [subject.name, options], {
    execArgv: [...node],
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: "" }
  })
  await next(child)
  return child
}

/** The process of a subject with these options: one for all rows, warm since the first of them, or the one of a number. */
export const open = async (
  subject: Subject,
  options: { readonly url: string; readonly pool: number },
  node: ReadonlyArray<string>,
  number = 0
): Promise<(asks: Asks) => Promise<{ readonly count: number; readonly seconds: number }>> => {
  const { pool, url } = options
  const key = JSON.stringify([subject.name, url, pool, number])
  const started = children.get(key) ?? start(subject, JSON.stringify({ url, pool }), node)
  children.set(key, started)
  const child = await started
  return async (asks) => {
    child.send(asks)
    const told = await next(child)
    if (told === "ready" || "error" in told) throw new Error(told === "ready" ? "it began anew" : told.error)
    return told
  }
}

/** Ends them all. */
export const close = async (): Promise<void> => {
  for (const started of children.values()) {
    await started.then(
      (child) => child.disconnect(),
      () => {}
    )
  }
  children.clear()
}
