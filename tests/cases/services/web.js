// The same in Node, on a hard-coded port, the way most programs are written.
'use strict'
require('node:http').createServer((req, res) => {
  res.setHeader('content-type', 'application/json')
  res.end(JSON.stringify({
    service: process.env.WATT_SERVICE, worker: process.env.WATT_WORKER, pid: process.pid, language: 'node', path: req.url
  }))
}).listen(3000)
