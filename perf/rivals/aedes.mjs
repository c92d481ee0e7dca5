// aedes under `cargo perf`: its README's server, with the limits lifted that a row would reach.
// usage: node aedes.mjs PORT, beside node_modules/aedes

import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker({
  // Messages that are handed to subscribers at the same time; the default of 100 stalls 1,000 pairs.
  concurrency: 100000,
  // QoS 2 messages of a client that are not released; 0 is no bound.
  maxInflightInbound: 0,
  // Waiting for a slow socket is no reason to cut the connection.
  drainTimeout: 0
})

// Every message leaves at once. Sessions and messages are in memory by default.
const server = createServer({ noDelay: true }, broker.handle)
server.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 })
