import { assert, describe, it } from "@effect/vitest"
import { count } from "../ci/Account.ts"

const report = (passed: number, failed: number, ...files: ReadonlyArray<readonly [string, ...ReadonlyArray<string>]>) =>
  JSON.stringify({
    numPassedTests: passed,
    numFailedTests: failed,
    testResults: files.map(([status, ...tests]) => ({
      status,
      assertionResults: tests.map((each) => ({ status: each }))
    }))
  })

describe("the sum of .ci/run", () => {
  it("counts tests, and as a failure each thing that is none", () => {
    assert.deepStrictEqual(count(report(2, 0, ["passed", "passed", "passed"]), 0), [2, 0])
    assert.deepStrictEqual(count(report(1, 1, ["failed", "passed", "failed"]), 1), [1, 1])
    assert.deepStrictEqual(count(report(1, 0, ["passed", "passed"], ["failed"]), 1), [1, 1], "a file does not load")
    assert.deepStrictEqual(count(report(1, 0, ["passed", "passed"]), 1), [1, 1], "an error outside of a test")
    assert.deepStrictEqual(count(report(0, 0), 0), [0, 1], "no test ran")
    assert.deepStrictEqual(count(undefined, 1), [0, 1], "no report")
    assert.deepStrictEqual(count("{", null), [0, 1], "half a report")
  })
})
