// gRPC as it is on the wire, without a library: each message goes back, and a status follows the last one.
const http2 = require('node:http2')

const server = http2.createServer()
server.on('stream', (stream, headers) => {
  stream.on('error', () => {})
  stream.respond({ ':status': 200, 'content-type': headers['content-type'] }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': String(process.pid) }))
  stream.pipe(stream)
})
process.on('SIGTERM', () => server.close(() => process.exit(0)))
server.listen(Number(process.env.PORT), '0.0.0.0')
