/** Exact equality of types: neither direction of assignability alone. */
export type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Compiles only for `true`. */
export const check = <_T extends true>(): void => {}
