console.log("Sluice")
