/** One subject in a process of its own: `worker.ts SUBJECT OPTIONS`. It does a round when it is told to, and says what came of it. */
import { subjects } from "./subjects/index.ts"
import type { LoadName } from "./Subject.ts"

export interface Asks {
  readonly load: LoadName
  readonly fibers: number
  readonly millis: number
}

export type Told = { readonly count: number; readonly seconds: number } | { readonly error: string } | "ready"

const tell = (told: Told): void => void process.send!(told)

const [, , name, options] = process.argv
const subject = subjects.find((each) => each.name === name)!
const querying = await subject.open(JSON.parse(options!))

process.on("disconnect", () => void querying.close().finally(() => process.exit()))
process.on("message", ({ fibers, load, millis }: Asks) => {
  const run = querying[load]
  if (run === undefined) return tell({ error: "does not offer this" })
  const round = async (): Promise<Told> => {
    // A running start: its pages and the server's are cold after the turns of the others.
    await run(fibers, millis / 3)
    const began = performance.now()
    const count = await run(fibers, millis)
    return { count, seconds: (performance.now() - began) / 1_000 }
  }
  round().then(tell, (error) => tell({ error: String(error) }))
})
tell("ready")
