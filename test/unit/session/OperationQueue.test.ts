import { assert, describe, it } from "@effect/vitest"
import { SignOfLife } from "@sluice/sdk/pool/session/Cancel"
import { OperationQueue } from "@sluice/sdk/pool/session/OperationQueue"
import type { Operation } from "@sluice/sdk/pool/session/Wire"
import { fuzz, random } from "../../support/random.ts"

const { runs, seed } = fuzz(300)

describe("the queues of a wire", () => {
  it(`two queues that pass operations on are two arrays: ${runs} runs from SLUICE_FUZZ_SEED=${seed}`, () => {
    for (let run = seed; run < seed + runs; run++) {
      const of = random(run)
      const told = `SLUICE_FUZZ_SEED=${run} SLUICE_FUZZ_RUNS=1`
      const queues = [0, 1].map(() => ({ queue: new OperationQueue(), model: [] as Array<Operation> }))
      // Those that are in neither: an operation that was answered may be submitted again.
      const free = Array.from({ length: 6 }, (): Operation => new SignOfLife(false, () => {}))
      for (let step = 0; step < 60; step++) {
        const { model, queue } = of.pick(queues)
        const what = of.below(5)
        if (what === 4 && of.chance(0.3)) {
          assert.deepStrictEqual(queue.takeAll(), model, told)
          free.push(...model.splice(0))
        } else if (what > 1) {
          const operation = queue.shift()
          assert.strictEqual(operation, model.shift(), told)
          if (operation !== undefined) free.push(operation)
        } else if (free.length > 0) {
          const [operation] = free.splice(of.below(free.length), 1) as [Operation]
          queue[what === 0 ? "push" : "unshift"](operation)
          model[what === 0 ? "push" : "unshift"](operation)
        }
        for (const { model, queue } of queues) {
          assert.strictEqual(queue.size, model.length, told)
          assert.strictEqual(queue.first, model[0], told)
        }
        for (const operation of free) assert.isUndefined(operation.next, told)
      }
    }
  })
})
