/** Several configurations, or everything that is wrong with any of them, at once. */
import * as Result from "effect/Result"
import { variables } from "../DatabaseOptions.ts"
import { InvalidConfiguration } from "../ReportError.ts"

type Issue = InvalidConfiguration["issues"][number]

/** A variable says by itself whose it is: several roles may read the same. */
const isVariable = ({ name }: Issue): boolean =>
  Object.values(variables).some((variable) => name === variable || name.endsWith(`_${variable}`))

const same = (a: Issue, b: Issue): boolean =>
  a.name === b.name && a.value === b.value && a.expected === b.expected && a.problem === b.problem

/**
 * `common` is what is wrong with all of them, and is told once. An option in code is named with its role: `replica.port`.
 */
export const together = <Name extends string, A>(
  subject: string,
  common: ReadonlyArray<Issue>,
  each: ReadonlyArray<readonly [name: Name, resolved: Result.Result<A, InvalidConfiguration>]>
): Result.Result<ReadonlyArray<readonly [Name, A]>, InvalidConfiguration> => {
  const good: Array<readonly [Name, A]> = []
  const bad: Array<readonly [Name, InvalidConfiguration]> = []
  for (const [name, resolved] of each) {
    if (Result.isSuccess(resolved)) good.push([name, resolved.success])
    else bad.push([name, resolved.failure])
  }
  if (bad.length === 0 && common.length === 0) return Result.succeed(good)
  if (bad.length === 1 && common.length === 0) return Result.fail(bad[0]![1])
  const issues = [...common]
  for (const [role, error] of bad) {
    for (const issue of error.issues) {
      if (common.some((one) => same(one, issue))) continue
      const told = isVariable(issue) ? issue : { ...issue, name: `${role}.${issue.name}` }
      if (!issues.some((one) => same(one, told))) issues.push(told)
    }
  }
  return Result.fail(new InvalidConfiguration({ subject, issues }))
}
