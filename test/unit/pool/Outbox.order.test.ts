import { assert, describe, it } from "@effect/vitest"
import { Compartment } from "@sluice/sdk/pool/Entry"
import { Lane } from "@sluice/sdk/pool/Lanes"
import { Outbox } from "@sluice/sdk/pool/Outbox"
import type { Poolable } from "@sluice/sdk/pool/Poolable"
import { Ticket } from "@sluice/sdk/pool/Waiters"
import * as Effect from "effect/Effect"

const lane = new Lane<Poolable>("any", new Compartment<Poolable>(0, 1, 1), {
  reserved: 0,
  cap: Infinity,
  maxWaiting: Infinity,
  priority: 0
})

describe("the outbox", () => {
  it("resumes everybody in order, also those who are answered by one that was resumed, by an action, or later", () => {
    const outbox = new Outbox<Poolable>(Effect.runFork)
    const resumed: Array<string> = []
    const ticket = (name: string, then = (): void => {}): Ticket<Poolable> => {
      const made = new Ticket(lane, name, 0, Infinity, undefined as never, undefined)
      made.outcome = Effect.die("not looked at in here")
      made.resume = () => {
        resumed.push(name)
        then()
        // A caller that comes straight back in: whoever is first in the loop goes on with it.
        outbox.flush()
      }
      return made
    }
    const late = ticket("late", () => outbox.defer(() => outbox.resume(ticket("by an action"))))
    outbox.resume(ticket("first", () => outbox.resume(late)))
    outbox.resume(ticket("second"))
    outbox.resume(ticket("third", () => outbox.resume(ticket("last"))))
    outbox.flush()
    assert.deepStrictEqual(resumed, ["first", "second", "third", "late", "last", "by an action"])
    outbox.resume(ticket("again"))
    outbox.flush()
    assert.strictEqual(resumed.at(-1), "again")
  })
})
