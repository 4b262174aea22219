/** A full disk: the table that is written to lies on a file system of 16 MB, and the rest of it is taken for 3 s. */
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { undoneBy } from "../support/guarded.ts"
import type { Fault, Prepared, Scene } from "./Fault.ts"

const filler = "filler"

/** Where the small file system of this drill is; unmounted and removed however this process ends. */
const mounted = Effect.fnUntraced(function* ({ cluster }: Scene) {
  if (process.getuid?.() !== 0 || process.platform !== "linux") return undefined
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-disk-"))
  yield* undoneBy('umount "$DIR" || umount -l "$DIR"; rmdir "$DIR"', { DIR: directory })
  const { gid, uid } = fs.statSync(cluster.primary.dataDirectory)
  const options = `size=16m,mode=700,uid=${uid},gid=${gid}`
  const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", options, "sluice-drill", directory], { stdio: "ignore" })
  if (status !== 0) return undefined
  fs.mkdirSync(path.join(directory, "space"), { mode: 0o700 })
  fs.chownSync(path.join(directory, "space"), uid, gid)
  return directory
})

let disk: string | undefined

const run = ({ cluster, database }: Scene, sql: string) => cluster.primary.query(sql, [], { database })

const prepare = Effect.fnUntraced(function* (scene: Scene): Effect.fn.Return<Prepared, unknown, any> {
  disk = yield* mounted(scene)
  if (disk === undefined)
    return { note: "53100 raised by a trigger: a file system can be mounted by root on Linux alone" }
  yield* run(scene, `create tablespace small location '${disk}/space'`)
  yield* run(scene, "alter table writes set tablespace small")
  // Two rows to a page, so that a write needs a new page soon.
  yield* run(scene, "alter table writes add column pad text default repeat('x', 4000)")
  yield* run(scene, "alter table writes alter column pad set storage plain")
  yield* Effect.addFinalizer(() =>
    Effect.ignore(
      Effect.forEach(
        ["alter table writes drop column pad", "alter table writes set tablespace pg_default", "drop tablespace small"],
        (sql) => run(scene, sql)
      )
    )
  )
  return { note: "the table lay on a tmpfs of 16 MB" }
})

const fill = (directory: string) => {
  const file = fs.openSync(path.join(directory, filler), "w")
  try {
    const block = Buffer.alloc(65_536)
    for (;;) fs.writeSync(file, block)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
  } finally {
    fs.closeSync(file)
  }
}

const raising = [
  `create function no_space() returns trigger language plpgsql as $$
   begin raise exception 'no space' using errcode = '53100'; end $$`,
  "create trigger no_space before insert on writes execute function no_space()"
]
const quiet = ["drop trigger no_space on writes", "drop function no_space"]

export const diskFull: Fault = {
  name: "disk-full",
  about: "the disk under the table that is written to is full (53100) for 3 s; reads go on",
  while: "busy",
  prepare,
  begin: (scene) => {
    const directory = disk
    return directory === undefined
      ? Effect.forEach(raising, (sql) => run(scene, sql))
      : Effect.sync(() => fill(directory))
  },
  lasts: 3_000,
  end: (scene) => {
    const directory = disk
    return directory === undefined
      ? Effect.forEach(quiet, (sql) => run(scene, sql))
      : Effect.sync(() => fs.rmSync(path.join(directory, filler)))
  }
}
