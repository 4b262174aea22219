/** For `skipIf`: whether a program that a test needs is missing, said by name where the test is declared. */
const told = new Set<string>()

export const absent = (program: string, installed: boolean): boolean => {
  if (!installed && !told.has(program)) {
    told.add(program)
    console.warn(`${program} is not installed: its tests are skipped`)
  }
  return !installed
}
