export * as ReportError from "./ReportError.ts"
