/**
 * The mutants of one source file, and the file with all of them inside, each behind a switch: `$m(7)` is true while the
 * seventh mutant is the one that is being tried. So a file is compiled and loaded once, not once for each mutant.
 *
 * | kind | changes |
 * |---|---|
 * | comparison | `<` to `<=` and `>=` and so on, `===` to `!==` |
 * | arithmetic | `+` to `-`, `*` to `/`, `%` to `*`, `+=` to `-=`, `++` to `--` |
 * | logic | `&&` to `\|\|`, `??` to `&&`, `!a` to `a`, `a?.b` to `a.b` |
 * | condition | of `if`, `?:` and `switch` cases: always, never; of loops: never |
 * | literal | `true` to `false`, `[...]` to `[]`, `{...}` to `{}`, a SQLSTATE to another one |
 * | method | `Math.min` to `Math.max`, `some` to `every`, `startsWith` to `endsWith`, `push` to `unshift`, ... |
 * | block | a body without its statements, an arrow function that gives `undefined` |
 *
 * Texts are not changed: nothing is decided by what a message says.
 */
import { parseSync } from "oxc-parser"

export interface Mutant {
  readonly id: number
  /** From packages/sdk/src. */
  readonly file: string
  readonly line: number
  readonly kind: string
  readonly original: string
  readonly replacement: string
}

interface Site {
  readonly start: number
  readonly end: number
  readonly block: boolean
  readonly mutants: Array<Mutant>
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: any
}

const comparisons: Record<string, ReadonlyArray<string>> = {
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "===": ["!=="],
  "!==": ["==="]
}
const arithmetic: Record<string, string> = {
  "+": "-",
  "-": "+",
  "*": "/",
  "/": "*",
  "%": "*",
  "|": "&",
  "&": "|",
  "<<": ">>",
  ">>": "<<"
}
const assignments: Record<string, string> = {
  "+=": "-=",
  "-=": "+=",
  "*=": "/=",
  "/=": "*=",
  "|=": "&=",
  "??=": "&&="
}
const logic: Record<string, string> = { "&&": "||", "||": "&&", "??": "&&" }
const methods: Record<string, string> = {
  min: "max",
  max: "min",
  some: "every",
  every: "some",
  startsWith: "endsWith",
  endsWith: "startsWith",
  push: "unshift",
  unshift: "push",
  shift: "pop",
  pop: "shift",
  floor: "ceil",
  ceil: "floor"
}
const sqlState = /^[0-9A-Z]{5}$/

const isText = (node: Node): boolean =>
  node.type === "TemplateLiteral" || (node.type === "Literal" && typeof node["value"] === "string")

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as Node).type === "string"

/** These wrap an expression in a type; everything else that begins with TS is a type. */
const wrappers = new Set(["TSAsExpression", "TSNonNullExpression", "TSSatisfiesExpression"])

export interface Instrumented {
  readonly mutants: ReadonlyArray<Mutant>
  readonly text: string
}

/** `firstId`: where the numbers of this file begin. */
export const instrument = (file: string, text: string, firstId: number): Instrumented => {
  const sites = new Map<string, Site>()
  const mutants: Array<Mutant> = []
  const lineStarts = [0]
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lineStarts.push(at + 1)
  const lineOf = (offset: number): number => lineStarts.filter((start) => start <= offset).length

  const add = (node: Node, kind: string, replacement: string, block = false): void => {
    const key = `${node.start}:${node.end}`
    let site = sites.get(key)
    if (site === undefined) sites.set(key, (site = { start: node.start, end: node.end, block, mutants: [] }))
    const original = text.slice(node.start, node.end)
    if (original === replacement || site.mutants.some((other) => other.replacement === replacement)) return
    const mutant = { id: firstId + mutants.length, file, line: lineOf(node.start), kind, original, replacement }
    mutants.push(mutant)
    site.mutants.push(mutant)
  }
  const source = (node: Node): string => text.slice(node.start, node.end)
  const operator = (node: Node, left: Node, right: Node, to: string): string =>
    source(node).slice(0, left.end - node.start) + ` ${to} ` + text.slice(right.start, node.end)

  const condition = (test: Node, both: boolean): void => {
    if (test.type === "Literal") return
    if (both) add(test, "condition", "true")
    add(test, "condition", "false")
  }

  const mutate = (node: Node): void => {
    switch (node.type) {
      case "BinaryExpression": {
        const { left, right } = node
        for (const to of comparisons[node["operator"]] ?? []) add(node, "comparison", operator(node, left, right, to))
        const to = arithmetic[node["operator"]]
        if (to !== undefined && !isText(left) && !isText(right)) {
          add(node, "arithmetic", operator(node, left, right, to))
        }
        return
      }
      case "LogicalExpression":
        return add(node, "logic", `(${source(node["left"])}) ${logic[node["operator"]]!} (${source(node["right"])})`)
      case "UnaryExpression":
        if (node["operator"] === "!" || node["operator"] === "-") add(node, "logic", source(node["argument"]))
        return
      case "UpdateExpression": {
        const to = node["operator"] === "++" ? "--" : "++"
        return add(node, "arithmetic", source(node).replace(node["operator"], to))
      }
      case "AssignmentExpression": {
        const to = assignments[node["operator"]]
        if (to !== undefined && !isText(node["right"]))
          add(node, "arithmetic", operator(node, node["left"], node["right"], to))
        return
      }
      case "ChainExpression":
        return add(node, "logic", source(node).replace("?.(", "(").replace("?.[", "[").replace("?.", "."))
      case "ConditionalExpression":
      case "IfStatement":
        return condition(node["test"], true)
      case "WhileStatement":
      case "DoWhileStatement":
      case "ForStatement":
        if (isNode(node["test"])) condition(node["test"], false)
        return
      case "Literal":
        if (typeof node["value"] === "boolean") add(node, "literal", String(!node["value"]))
        if (typeof node["value"] === "string" && sqlState.test(node["value"]) && /\d/.test(node["value"])) {
          add(node, "literal", JSON.stringify("Z9Z9Z"))
        }
        return
      case "ArrayExpression":
        if (node["elements"].length > 0) add(node, "literal", "[]")
        return
      case "ObjectExpression":
        if (node["properties"].length > 0) add(node, "literal", "({})")
        return
      case "CallExpression": {
        const callee: Node = node["callee"]
        if (callee.type !== "MemberExpression" || callee["computed"] === true) return
        const name: string = callee["property"].name
        const to = Object.hasOwn(methods, name) ? methods[name] : undefined
        if (to === undefined) return
        const at = callee["property"].start - node.start
        return add(node, "method", source(node).slice(0, at) + to + source(node).slice(at + name.length))
      }
      case "BlockStatement":
        if (node["body"].length > 0) add(node, "block", "{}", true)
        return
      case "ArrowFunctionExpression":
        if (node["body"].type !== "BlockStatement" && source(node["body"]) !== "undefined") {
          add(node["body"], "block", "undefined")
        }
    }
  }

  /** Where a statement begins with a site: without a semicolon before its parenthesis it would be a call. */
  const begins = new Set<number>()
  const lists = new Set(["Program", "BlockStatement", "SwitchCase"])

  const visit = (node: Node, parent: Node | undefined): void => {
    if (node.type.startsWith("TS") && !wrappers.has(node.type)) return
    if (node.type === "ImportDeclaration" || node.type === "ExportAllDeclaration") return
    if (node.type === "ExpressionStatement" && lists.has(parent?.type ?? "")) begins.add(node.start)
    mutate(node)
    for (const [key, value] of Object.entries(node)) {
      // The names of things are no values; `return` types and the like begin with TS.
      if ((key === "key" || key === "property") && node["computed"] !== true) continue
      for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) visit(child, node)
    }
  }
  const { errors, program } = parseSync(file, text)
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]!.message}`)
  visit(program as unknown as Node, undefined)

  const ordered = [...sites.values()]
    .filter((site) => site.mutants.length > 0)
    .sort((a, b) => a.start - b.start || b.end - a.end)
  let next = 0
  const render = (start: number, end: number): string => {
    let out = ""
    let at = start
    while (next < ordered.length && ordered[next]!.start < end) {
      const site = ordered[next++]!
      out += text.slice(at, site.start)
      if (!site.block && begins.delete(site.start)) out += ";"
      const inner = render(site.start, site.end)
      if (site.block) out += `{if(!$m(${site.mutants[0]!.id}))${inner}}`
      else out += `(${site.mutants.map((one) => `$m(${one.id})?(${one.replacement}):`).join("")}(${inner}))`
      at = site.end
    }
    return out + text.slice(at, end)
  }
  return { mutants, text: render(0, text.length) }
}
