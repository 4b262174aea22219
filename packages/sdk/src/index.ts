export * as Database from "./Database.ts"
export * as Report from "./Report.ts"
export * as ReportError from "./ReportError.ts"
export type { ReportResult } from "./ReportResult.ts"
