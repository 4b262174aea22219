/** Chance that a seed repeats, for tests that draw. */
import { mulberry32 } from "../../packages/sdk/src/testing/internal/mulberry32.ts"

export { mulberry32 }

/** `SLUICE_FUZZ_RUNS` makes a fuzz test long, `SLUICE_FUZZ_SEED` repeats one run of it. */
export const fuzz = (runs: number): { readonly runs: number; readonly seed: number } => ({
  runs: Number(process.env["SLUICE_FUZZ_RUNS"] ?? runs),
  seed: Number(process.env["SLUICE_FUZZ_SEED"] ?? Math.floor(Math.random() * 2 ** 31))
})

export interface Random {
  /** In [0, 1). */
  readonly next: () => number
  readonly below: (n: number) => number
  readonly chance: (p: number) => boolean
  readonly pick: <A>(items: ReadonlyArray<A>) => A
  readonly many: <A>(max: number, one: (index: number) => A) => Array<A>
}

export const random = (seed: number): Random => {
  const next = mulberry32(seed)
  const below = (n: number): number => Math.floor(next() * n)
  return {
    next,
    below,
    chance: (p) => next() < p,
    pick: (items) => items[below(items.length)]!,
    many: (max, one) => Array.from({ length: below(max + 1) }, (_, index) => one(index))
  }
}
