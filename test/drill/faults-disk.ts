/** A full disk: the table that is written to lies on a file system of 16 MB, and the rest of it is taken for 3 s. */
import * as Effect from "effect/Effect"
import { smallDisk, type SmallDisk } from "../support/smallDisk.ts"
import type { Fault, Scene } from "./Fault.ts"

let disk: SmallDisk | undefined

const run = ({ cluster, database }: Scene, ...statements: ReadonlyArray<string>) =>
  Effect.forEach(statements, (sql) => cluster.primary.query(sql, [], { database }), { discard: true })

const raise = (scene: Scene) =>
  run(
    scene,
    `create function no_space() returns trigger language plpgsql as $$
     begin raise exception 'no space' using errcode = '53100'; end $$`,
    "create trigger no_space before insert on writes execute function no_space()"
  )

export const diskFull: Fault = {
  name: "disk-full",
  about: "the disk under the table that is written to is full (53100) for 3 s; reads go on",
  while: "busy",
  prepare: Effect.fnUntraced(function* (scene) {
    disk = yield* smallDisk(scene.cluster.primary.dataDirectory)
    if (disk === undefined) return { note: "53100 raised by a trigger: nothing can be mounted here" }
    // Two rows to a page, so that a write needs a new page soon.
    yield* run(
      scene,
      `create tablespace small location '${disk.space}'`,
      "alter table writes set tablespace small",
      "alter table writes add column pad text default repeat('x', 4000)",
      "alter table writes alter column pad set storage plain"
    )
    yield* Effect.addFinalizer(() =>
      Effect.ignore(
        run(
          scene,
          "alter table writes drop column pad",
          "alter table writes set tablespace pg_default",
          "drop tablespace small",
          // A recovery must not look for a tablespace that is gone.
          "checkpoint"
        )
      )
    )
    return { note: "the table lay on a tmpfs of 16 MB" }
  }),
  begin: (scene) => disk?.fill ?? raise(scene),
  lasts: 3_000,
  end: (scene) => disk?.empty ?? run(scene, "drop trigger no_space on writes", "drop function no_space")
}
