/** Where the SDK's public modules take options: every parameter of what they export, by the shape of its type. */
import { parseSync } from "oxc-parser"
import * as fs from "node:fs"
import * as path from "node:path"
import { modules, root } from "../../support/docs.ts"

type Node = { readonly type: string; readonly [key: string]: any }

/** `Options`, `LatencyOptions`, `SessionConfig`, or an object of optional fields. */
const isOptions = (type: Node | undefined): boolean => {
  switch (type?.type) {
    case "TSTypeReference": {
      const { name = type["typeName"].right?.name } = type["typeName"]
      if (["Pick", "Omit", "Partial", "Readonly", "ReadonlyArray"].includes(name))
        return type["typeArguments"].params.some(isOptions)
      return /(?:Options|Config|Source|Fault)$/.test(name ?? "")
    }
    case "TSTypeLiteral":
      return type["members"].length > 0 && type["members"].some((member: Node) => member["optional"] === true)
    case "TSIntersectionType":
    case "TSUnionType":
      return type["types"].some(isOptions)
    case "TSParenthesizedType":
    case "TSMappedType":
      return isOptions(type["typeAnnotation"])
    default:
      return false
  }
}

const parametersIn = (node: Node): ReadonlyArray<Node> =>
  (node["params"]?.items ?? node["params"] ?? []) as ReadonlyArray<Node>

/** Functions inside: what a function returns, what an object type's members are. */
const takesIn = (node: Node | undefined, depth = 0): boolean => {
  if (node === undefined || node === null || depth > 6) return false
  switch (node.type) {
    case "ArrowFunctionExpression":
    case "FunctionExpression":
    case "FunctionDeclaration":
    case "TSFunctionType":
    case "TSMethodSignature":
    case "TSCallSignatureDeclaration":
      return (
        parametersIn(node).some((parameter) =>
          isOptions((parameter["left"] ?? parameter)["typeAnnotation"]?.typeAnnotation)
        ) ||
        takesIn(node["body"], depth + 1) ||
        takesIn(node["returnType"]?.typeAnnotation, depth + 1)
      )
    case "CallExpression":
      return node["arguments"].some((one: Node) => takesIn(one, depth + 1))
    case "TSTypeLiteral":
      return node["members"].some((member: Node) => takesIn(member, depth + 1))
    default:
      return false
  }
}

/** `policy/Breaker.make`, and `testing/FaultProxy.FaultProxy.latency` of an interface that somebody is given. */
export const takers = (): ReadonlyArray<string> =>
  modules().flatMap((file) => {
    const text = fs.readFileSync(path.join(root, "packages/sdk/src", file), "utf8")
    const module = file.replace(/\.ts$/, "")
    return (parseSync(file, text).program.body as ReadonlyArray<Node>).flatMap((statement) => {
      const declaration = statement.type === "ExportNamedDeclaration" ? (statement["declaration"] as Node | null) : null
      if (declaration === null) return []
      switch (declaration.type) {
        case "VariableDeclaration":
          return declaration["declarations"].flatMap((one: Node) =>
            takesIn(one["init"]) || takesIn(one["id"].typeAnnotation?.typeAnnotation)
              ? [`${module}.${one["id"].name}`]
              : []
          )
        case "ClassDeclaration":
          return declaration["body"].body.flatMap((member: Node) =>
            member["static"] === true && takesIn(member["value"])
              ? [`${module}.${declaration["id"].name}.${member["key"]?.name}`]
              : []
          )
        case "FunctionDeclaration":
          return takesIn(declaration) ? [`${module}.${declaration["id"].name}`] : []
        case "TSInterfaceDeclaration":
          return declaration["body"].body.flatMap((member: Node) =>
            takesIn(member["typeAnnotation"]?.typeAnnotation) || takesIn(member)
              ? [`${module}.${declaration["id"].name}.${member["key"]?.name}`]
              : []
          )
        default:
          return []
      }
    })
  })
