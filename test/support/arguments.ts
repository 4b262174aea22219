/** A command's arguments: `--help` prints its usage and ends with 0, what it does not know is one line and ends with 2. */
import { parseArgs, type ParseArgsConfig } from "node:util"

type Options = NonNullable<ParseArgsConfig["options"]>

const help = { help: { type: "boolean", short: "h" } } as const

/** The values of the options, each checked to be one. */
export const argumentsOf = <const Given extends Options>(usage: string, options: Given) => {
  try {
    const { help: isHelp } = parseArgs({ options: { ...(options as Options), ...help } }).values
    if (isHelp !== true) return parseArgs<{ readonly options: Given }>({ options }).values
  } catch (error) {
    return refuse((error as Error).message.split(/[.\n] ?/)[0]!)
  }
  console.log(usage)
  return process.exit(0)
}

/** What cannot be done, in one line. */
export const refuse = (problem: string): never => {
  console.error(`${problem}; --help tells what there is`)
  process.exit(2)
}

/** A number, or the end; `undefined` where it was not given. */
export const numberOf = (
  name: string,
  text: string | undefined,
  is: "a whole number" | "a whole number above 0" | "a number above 0"
): number | undefined => {
  if (text === undefined) return undefined
  const value = Number(text)
  const isWhole = Number.isSafeInteger(value) || is === "a number above 0"
  const isLarge = value > 0 || is === "a whole number"
  if (text.trim() !== "" && Number.isFinite(value) && isWhole && isLarge) return value
  return refuse(`--${name}: must be ${is}, not ${JSON.stringify(text)}`)
}

/** Names of a flag that may be given more than once, or several with commas. */
export const namesOf = (given: ReadonlyArray<string> | undefined): ReadonlyArray<string> | undefined =>
  given?.flatMap((one) => one.split(",")).filter((name) => name !== "")
