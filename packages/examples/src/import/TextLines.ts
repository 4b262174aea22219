/**
 * The lines of a text file, bounded in length: from a file, from a gzip file (known by its first bytes, not by its name), or
 * from standard input (`-`). A line ends with LF, CR LF or CR, whichever comes, mixed too.
 */
import { createReadStream } from "node:fs"
import type { Readable } from "node:stream"
import { createGunzip } from "node:zlib"

/** The longest line, in bytes. A longer one is told as too long, and its bytes are not kept. */
export const longestLine = 65_536

export interface TextLine {
  /** From 1. */
  readonly number: number
  /** `undefined`: longer than {@link longestLine}. */
  readonly text: string | undefined
  /** Bytes of the file (as it lies on the disk) that were read so far. */
  readonly bytes: number
}

const LF = 10
const CR = 13

const isGzip = (start: Buffer): boolean => start[0] === 0x1f && start[1] === 0x8b

/** The content of a file, unpacked; `onBytes` is told of what was read from the disk. Closes the file in every case. */
async function* content(source: Readable, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  const chunks = counted(source, onBytes)
  try {
    let start: Buffer = Buffer.alloc(0)
    for (;;) {
      const next = await chunks.next()
      if (next.done === true) break
      start = start.length === 0 ? next.value : Buffer.concat([start, next.value])
      if (start.length >= 2) break
    }
    if (!isGzip(start)) {
      if (start.length > 0) yield start
      yield* chunks
      return
    }
    const gunzip = createGunzip()
    const feeding = feed(gunzip, start, chunks)
    try {
      for await (const chunk of gunzip) yield chunk as Buffer
      await feeding
    } finally {
      gunzip.destroy()
    }
  } finally {
    source.destroy()
  }
}

async function* counted(source: Readable, onBytes: (bytes: number) => void): AsyncGenerator<Buffer, void> {
  for await (const chunk of source as AsyncIterable<Buffer>) {
    onBytes(chunk.length)
    yield chunk
  }
}

const feed = async (
  gunzip: ReturnType<typeof createGunzip>,
  start: Buffer,
  chunks: AsyncGenerator<Buffer, void>
): Promise<void> => {
  const write = (chunk: Buffer): Promise<void> | undefined =>
    gunzip.write(chunk)
      ? undefined
      : new Promise((resolve) => {
          gunzip.once("drain", resolve)
          gunzip.once("close", resolve)
        })
  try {
    await write(start)
    for await (const chunk of chunks) {
      if (gunzip.destroyed) return
      await write(chunk)
    }
    gunzip.end()
  } catch (error) {
    gunzip.destroy(error as Error)
  }
}

/** The lines of `file`, or of standard input where it is `-`. */
export async function* textLines(file: string): AsyncGenerator<TextLine> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  let bytes = 0
  let number = 0
  let pieces: Array<Buffer> = []
  let length = 0
  let afterCarriageReturn = false

  const take = (): TextLine => {
    number += 1
    const text =
      length > longestLine ? undefined : decoder.decode(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces))
    pieces = []
    length = 0
    return { number, text, bytes }
  }
  const keep = (piece: Buffer): void => {
    length += piece.length
    if (length <= longestLine) pieces.push(piece)
    else pieces = []
  }

  const source = file === "-" ? process.stdin : createReadStream(file)
  for await (const chunk of content(source, (more) => (bytes += more))) {
    let start = 0
    for (let index = 0; index < chunk.length; index++) {
      const byte = chunk[index]
      if (byte !== LF && byte !== CR) continue
      // The LF of a CR LF ends no second line.
      if (byte === LF && index === start && afterCarriageReturn) {
        start = index + 1
        afterCarriageReturn = false
        continue
      }
      if (index > start) keep(chunk.subarray(start, index))
      afterCarriageReturn = byte === CR
      start = index + 1
      yield take()
    }
    if (start < chunk.length) {
      afterCarriageReturn = false
      keep(chunk.subarray(start))
    }
  }
  if (length > 0) yield take()
}
