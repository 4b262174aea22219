/** A file system of 16 MB that a server may fill: a tmpfs, which root can mount on Linux. */
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { undoneBy } from "./guarded.ts"

export interface SmallDisk {
  /** For `create tablespace ... location`. */
  readonly space: string
  /** Takes all that is left. */
  readonly fill: Effect.Effect<void>
  readonly empty: Effect.Effect<void>
}

/** `undefined` where nothing can be mounted. Unmounted and removed when the scope closes, and however this process ends. */
export const smallDisk = Effect.fnUntraced(function* (dataDirectory: string) {
  if (process.getuid?.() !== 0 || process.platform !== "linux") return undefined
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-disk-"))
  yield* undoneBy('umount "$DIR" || umount -l "$DIR"; rmdir "$DIR"', { DIR: directory })
  const { gid, uid } = fs.statSync(dataDirectory)
  const options = `size=16m,mode=700,uid=${uid},gid=${gid}`
  if (spawnSync("mount", ["-t", "tmpfs", "-o", options, "sluice-drill", directory]).status !== 0) return undefined
  const space = path.join(directory, "space")
  fs.mkdirSync(space, { mode: 0o700 })
  fs.chownSync(space, uid, gid)
  const filler = path.join(directory, "filler")
  const fill = Effect.sync(() => {
    const file = fs.openSync(filler, "w")
    try {
      // To the last page: whatever is left over would do for a while.
      for (const size of [65_536, 4_096]) {
        try {
          for (;;) fs.writeSync(file, Buffer.alloc(size))
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error
        }
      }
    } finally {
      fs.closeSync(file)
    }
  })
  const disk: SmallDisk = { space, fill, empty: Effect.sync(() => fs.rmSync(filler)) }
  return disk
})
