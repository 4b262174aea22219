/** Real servers and a broken network, for the tests of your own reports. */
export * as FaultProxy from "./FaultProxy.ts"
export * as PgBinaries from "./PgBinaries.ts"
export * as PgCluster from "./PgCluster.ts"
export * as PgServer from "./PgServer.ts"
