/** The reports of the fleet. */
export { distance } from "./distance.ts"
export { idle } from "./idle.ts"
export { latest } from "./latest.ts"
export { overspeed } from "./overspeed.ts"
export { record, recorded } from "./record.ts"
export { stoppage, stoppageSummary } from "./stoppage.ts"
export { trips } from "./trips.ts"
export { forKnownVehicle, UnknownVehicle, vehicle } from "./vehicle.ts"
