import { assert, describe, it } from "@effect/vitest"
import * as fs from "node:fs"
import { file, missing, type Lock } from "../support/lock.ts"

describe("the lock file", () => {
  const text = fs.readFileSync(file, "utf8")
  const lock = JSON.parse(text) as Lock

  it("knows every optional package of every platform, else npm ci refuses it: npm run lock completes it", () => {
    assert.deepStrictEqual(missing(lock), [])
  })

  it("names no registry", () => {
    const hosts = Object.entries(lock.packages).filter(([, entry]) => entry.resolved?.includes("://"))
    assert.deepStrictEqual(hosts, [])
    assert.notInclude(text, '"resolved": "http')
  })
})
