/** One mutation a rule: what to change in the SDK so that the rule no longer holds. */
export interface Mutation {
  readonly rule: string
  readonly file: string
  readonly from: string
  readonly to: string
}

export const mutations: ReadonlyArray<Mutation> = [
  {
    rule: "an unknown role does not compile",
    file: "Database.ts",
    from: "readonly role: <Name extends Names>(name: Name)",
    to: "readonly role: <Name extends string>(name: Name)"
  },
  {
    rule: "a layer needs the options of every role",
    file: "Database.ts",
    from: "readonly [Name in Names]: RoleOptions",
    to: "readonly [Name in Names]?: RoleOptions"
  },
  {
    rule: "a role of one database is not a role of another",
    file: "Database.ts",
    from: "(name: Name) => Context.Service<Role<Id, Name>, RoleService>",
    to: "(name: Name) => Context.Service<Role<any, Name>, RoleService>"
  },
  {
    rule: "the error channel is exact",
    file: "Report.ts",
    from: "  | typeof AcquireTimeout\n  | typeof DeadlineExceeded",
    to: "  | typeof AcquireTimeout"
  },
  {
    rule: "the services of the query are required",
    file: "Report.ts",
    from: "RoleId | QueryR>",
    to: "RoleId>"
  },
  {
    rule: "the role is required",
    file: "Report.ts",
    from: "RoleId | QueryR>",
    to: "QueryR>"
  },
  {
    rule: "the services of the row are required",
    file: "Report.ts",
    from: ' | Row["DecodingServices"]',
    to: ""
  },
  {
    rule: "parameters are checked",
    file: "Report.ts",
    from: 'params: Params["~type.make.in"]',
    to: "params: any"
  },
  {
    rule: "a deadline is required",
    file: "Report.ts",
    from: "readonly deadline: Duration.Input",
    to: "readonly deadline?: Duration.Input"
  },
  {
    rule: "a query cannot fail",
    file: "Report.ts",
    from: "Effect.Effect<Statement.Statement<any>, never, QueryR>",
    to: "Effect.Effect<Statement.Statement<any>, any, QueryR>"
  }
]
