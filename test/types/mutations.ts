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
    file: "report/Declaration.ts",
    from: "  | typeof AcquireTimeout\n  | typeof DeadlineExceeded",
    to: "  | typeof AcquireTimeout"
  },
  {
    rule: "the services of the query are required",
    file: "Report.ts",
    from: "RoleId | QueryR |",
    to: "RoleId |"
  },
  {
    rule: "the role is required",
    file: "Report.ts",
    from: "RoleId | QueryR |",
    to: "QueryR |"
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
  },
  {
    rule: "a breaker adds CircuitOpen",
    file: "report/Declaration.ts",
    from: "  | IfDeclared<Breaker, typeof CircuitOpen>\n",
    to: ""
  },
  {
    rule: "a bulkhead adds Overloaded",
    file: "report/Declaration.ts",
    from: "  | IfDeclared<Bulkhead, typeof Overloaded>\n",
    to: ""
  },
  {
    rule: "a rate limit adds Overloaded",
    file: "report/Declaration.ts",
    from: "  | IfDeclared<RateLimit, typeof Overloaded>\n",
    to: ""
  },
  {
    rule: "a write adds OutcomeUnknown",
    file: "report/Declaration.ts",
    from: "  | IfDeclared<Write, typeof OutcomeUnknown>",
    to: ""
  },
  {
    rule: "a policy adds nothing when it is absent",
    file: "report/Declaration.ts",
    from: "[Policy] extends [undefined] ? never : Adds",
    to: "Adds"
  },
  {
    rule: "a policy that is only possibly declared counts as declared",
    file: "report/Declaration.ts",
    from: "[Policy] extends [undefined] ? never : Adds",
    to: "undefined extends Policy ? never : Adds"
  },
  {
    rule: "the services of a retry's schedule are required",
    file: "report/Declaration.ts",
    from: "infer _Error, infer R> ? R : never",
    to: "infer _Error, infer _R> ? never : never"
  },
  {
    rule: "a report that writes cannot hedge",
    file: "Report.ts",
    from: `[Write] extends [undefined]
      ? Hedge
      : Declaration.Refused<"a report that writes has no hedge: a second attempt would write twice">`,
    to: "Hedge"
  },
  {
    rule: "a report that writes has no stream",
    file: "Report.ts",
    from: 'typeof OutcomeUnknown extends Unhandled ? NoStream : Params["~type.make.in"]',
    to: 'Params["~type.make.in"]'
  },
  {
    rule: "a fallback removes what it handles",
    file: "report/Declaration.ts",
    from: "readonly _tag: keyof Handled } } ? never : E",
    to: "readonly _tag: keyof Handled } } ? E : E"
  },
  {
    rule: "a fallback removes nothing else",
    file: "report/Declaration.ts",
    from: "readonly _tag: keyof Handled } } ? never : E",
    to: "readonly _tag: keyof Handled } } ? never : keyof Handled extends never ? E : never"
  },
  {
    rule: "a tag that cannot occur does not compile",
    file: "report/Declaration.ts",
    from: "} & { readonly [Tag in Exclude<keyof Handled, TagOf<E>>]: CannotFailWith<Tag> }",
    to: "}"
  },
  {
    rule: "the compiler says why a tag cannot occur",
    file: "report/Declaration.ts",
    from: "]: CannotFailWith<Tag> }",
    to: "]: never }"
  },
  {
    rule: "the services of a fallback are required",
    file: "Report.ts",
    from: "Handled[keyof Handled]",
    to: "never"
  },
  {
    rule: "a fallback gives rows of the report",
    file: "report/Declaration.ts",
    from: "Effect.Effect<ReadonlyArray<Row>, never, Handled[Tag]>",
    to: "Effect.Effect<ReadonlyArray<any>, never, Handled[Tag]>"
  },
  {
    rule: "a fallback cannot fail",
    file: "report/Declaration.ts",
    from: "Effect.Effect<ReadonlyArray<Row>, never, Handled[Tag]>",
    to: "Effect.Effect<ReadonlyArray<Row>, any, Handled[Tag]>"
  },
  {
    rule: "a transaction needs its role",
    file: "Report.ts",
    from: "RoleId | Declaration.RetryServices<Retry>>",
    to: "Declaration.RetryServices<Retry>>"
  },
  {
    rule: "a transaction passes on the errors of its effect",
    file: "Report.ts",
    from: 'Effect.Effect<A, E | Error["Type"], R | Requires>',
    to: 'Effect.Effect<A, Error["Type"], R | Requires>'
  },
  {
    rule: "a transaction passes on the services of its effect",
    file: "Report.ts",
    from: 'Effect.Effect<A, E | Error["Type"], R | Requires>',
    to: 'Effect.Effect<A, E | Error["Type"], Requires>'
  },
  {
    rule: "a transaction given its effect first passes on its errors",
    file: "Report.ts",
    from: 'E | Declaration.TransactionFailures<Bulkhead, ReadOnly>["Type"]',
    to: 'Declaration.TransactionFailures<Bulkhead, ReadOnly>["Type"]'
  },
  {
    rule: "a transaction that may write may have an unknown outcome",
    file: "report/Declaration.ts",
    from: "[ReadOnly] extends [true] ? never : Adds",
    to: "never"
  },
  {
    rule: "a transaction that reads alone has no unknown outcome",
    file: "report/Declaration.ts",
    from: "[ReadOnly] extends [true] ? never : Adds",
    to: "Adds"
  },
  {
    rule: "a transaction that only possibly reads alone may have an unknown outcome",
    file: "report/Declaration.ts",
    from: "[ReadOnly] extends [true] ? never : Adds",
    to: "true extends ReadOnly ? never : Adds"
  },
  {
    rule: "a transaction's bulkhead adds Overloaded",
    file: "report/Declaration.ts",
    from: "  | IfDeclared<Bulkhead, typeof Overloaded>\n  | UnlessReadOnly",
    to: "  | UnlessReadOnly"
  },
  {
    rule: "a transaction has an isolation level that there is",
    file: "report/Declaration.ts",
    from: 'export type Isolation = "read committed" | "repeatable read" | "serializable"',
    to: "export type Isolation = string"
  }
]
