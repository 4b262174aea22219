/** Mutants that no test can notice, or that it would be wrong to notice, each with the reason. */
export interface Explained {
  readonly file: string
  readonly original: string
  readonly replacement?: string
  readonly reason: string
}

export const explained: ReadonlyArray<Explained> = []
