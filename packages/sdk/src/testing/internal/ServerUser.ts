/** PostgreSQL refuses to run as root, so a test run that is root (a CI container) runs it as somebody else. */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { type Tried } from "../TestingError.ts"

export interface ServerUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

const passwd = (): ReadonlyArray<ServerUser> => {
  try {
    return fs
      .readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .map((line) => line.split(":"))
      .map(([name = "", , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
  } catch {
    return []
  }
}

/** `undefined` when we are not root: then the server runs as ourselves. `PG_RUN_AS`, else `postgres`, else `nobody`. */
export const find: Effect.Effect<ServerUser | undefined, Tried> = Effect.suspend(() => {
  if (process.getuid?.() !== 0) return Effect.succeed(undefined)
  const wanted = process.env["PG_RUN_AS"]
  const names = wanted === undefined || wanted === "" ? ["postgres", "nobody"] : [wanted]
  const users = passwd()
  for (const name of names) {
    const user = users.find((user) => user.name === name && user.uid > 0)
    if (user !== undefined) return Effect.succeed(user)
  }
  return Effect.fail({
    place: "user",
    problem: `PostgreSQL does not run as root, and /etc/passwd has no ordinary user ${names.join(" or ")}; set PG_RUN_AS`
  })
})

/** The options that make `spawn` switch to the user. */
export const asUser = (user: ServerUser | undefined): { readonly uid?: number; readonly gid?: number } =>
  user === undefined ? {} : { uid: user.uid, gid: user.gid }

/** Gives a file or a directory to the user. */
export const give = (path: string, user: ServerUser | undefined): void => {
  if (user !== undefined) fs.chownSync(path, user.uid, user.gid)
}
