/** Real servers and a broken network, for the tests of your own reports. */
export const name = "@sluice/sdk/testing"
