/** What a person waits for, or a vehicle: the preset, with time for a failover or a machine that is out of breath. */
import { Report } from "@sluice/sdk"

export const interactive = {
  ...Report.presets.interactive,
  deadline: "5 seconds",
  attemptTimeout: "2 seconds"
} as const
