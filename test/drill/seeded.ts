export { mulberry32 as generator } from "../support/random.ts"
