/** `postgresql.conf` of a server that is thrown away: quick to start, small, and honest about crashes. */

export type Settings = Readonly<Record<string, string | number | boolean>>

/** What every server gets; a cluster's own settings win. */
export const defaults: Settings = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: 200,
  shared_buffers: "64MB",
  // A crash of the server loses nothing that the kernel has; only a crash of the machine would, and then all is gone.
  fsync: false,
  full_page_writes: true,
  wal_level: "replica",
  max_wal_senders: 10,
  wal_log_hints: true,
  wal_keep_size: "256MB",
  hot_standby: true,
  // A replica whose primary was away asks again soon; the default is 5 s.
  wal_retrieve_retry_interval: "200ms",
  logging_collector: false,
  log_line_prefix: "%m [%p] ",
  timezone: "UTC",
  // Files in the data directory instead of /dev/shm, where a killed server would leave them behind.
  dynamic_shared_memory_type: "mmap"
}

const quote = (value: string): string => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`

const print = (value: string | number | boolean): string =>
  typeof value === "boolean" ? (value ? "on" : "off") : typeof value === "number" ? String(value) : quote(value)

/** The lines of a configuration file. */
export const render = (settings: Settings): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name} = ${print(value)}\n`)
    .join("")

/** A libpq connection string. */
export const conninfo = (parts: Readonly<Record<string, string | number>>): string =>
  Object.entries(parts)
    .map(([name, value]) => `${name}='${String(value).replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`)
    .join(" ")
