/** `opossum.ts MILLIS`: nanoseconds a call of opossum's timeout, breaker and capacity around nothing. */
import CircuitBreaker from "opossum"

const breaker = new CircuitBreaker(() => Promise.resolve(1), { timeout: 12_000, capacity: 10 })

const round = async (millis: number): Promise<number> => {
  const begin = performance.now()
  let count = 0
  do {
    for (let index = 0; index < 500; index++) await breaker.fire()
    count += 500
  } while (performance.now() - begin < millis)
  return ((performance.now() - begin) * 1e6) / count
}

const millis = Number(process.argv[2])
await round(millis * 2)
console.log(JSON.stringify(await round(millis)))
process.exit(0)
