/** A base copy of a running server, by the functions that `pg_basebackup` is made of: the npm package does not have it. */
import * as Effect from "effect/Effect"
import { constants, promises as fs } from "node:fs"
import * as path from "node:path"
import { type AdminFailure, type AdminSession } from "./AdminClient.ts"
import { type ServerUser } from "./ServerUser.ts"

// What the server makes anew: the directory is needed, its content is not. WAL comes by streaming.
const emptied =
  /^(pg_wal|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans|pgsql_tmp.*)$/
const skipped = /^(postmaster\.(pid|opts)|backup_label.*|standby\.signal|pg_internal\.init.*)$/

/** Which files are copied: all, those that count while the server runs, or none (directories only). */
type Keep = "all" | "running" | "nothing"

const copyTree = async (from: string, to: string, user: ServerUser | undefined, keep: Keep): Promise<void> => {
  const entries = await fs.readdir(from, { withFileTypes: true })
  await Promise.all(
    entries.map(async (entry) => {
      const source = path.join(from, entry.name)
      const target = path.join(to, entry.name)
      if (entry.isDirectory()) {
        await fs.mkdir(target, { mode: 0o700 })
        await copyTree(source, target, user, keep === "running" && emptied.test(entry.name) ? "nothing" : keep)
      } else if (keep === "all" || (keep === "running" && !skipped.test(entry.name))) {
        try {
          await fs.copyFile(source, target, constants.COPYFILE_FICLONE)
        } catch (error) {
          // Files come and go under a running server; recovery knows.
          if ((error as NodeJS.ErrnoException).code === "ENOENT") return
          throw error
        }
      } else return
      if (user !== undefined) await fs.chown(target, user.uid, user.gid)
    })
  )
}

/** Copies the data directory of a server that does not run. */
export const copyStopped = (from: string, to: string, user: ServerUser | undefined): Promise<void> =>
  copyTree(from, to, user, "all")

export interface Options {
  /** A session on the server that is copied. All of the backup happens on it. */
  readonly session: AdminSession
  readonly from: string
  /** An existing, empty directory that the server's user owns. */
  readonly to: string
  readonly user: ServerUser | undefined
}

/** Copies a running server's data directory; the copy still needs its `standby.signal`. */
export const clone = (options: Options): Effect.Effect<void, AdminFailure> =>
  Effect.gen(function* () {
    const { session, from, to, user } = options
    const io = <A>(action: () => Promise<A>) =>
      Effect.tryPromise({
        try: action,
        catch: (error): AdminFailure => ({ problem: `copy: ${String(error)}`, sqlState: undefined })
      })
    // LSNs are cast to text: the driver would decode their binary form as text.
    yield* session.query("select pg_backup_start('sluice', true)::text")
    yield* io(() => copyTree(from, to, user, "running"))
    const [row] = yield* session.query("select labelfile, spcmapfile from pg_backup_stop(false)")
    const label = path.join(to, "backup_label")
    yield* io(async () => {
      await fs.writeFile(label, String(row?.["labelfile"] ?? ""), { mode: 0o600 })
      if (user !== undefined) await fs.chown(label, user.uid, user.gid)
    })
  })
