// Calls `grpc.plt.local` over HTTP/2, by its name and by the mesh's socket, and tells over HTTP/1.1 what came of it.
const http = require('node:http')
const http2 = require('node:http2')
const net = require('node:net')

const ways = {
  '/name': () => http2.connect('http://grpc.plt.local'),
  '/socket': () =>
    http2.connect('http://grpc.plt.local', { createConnection: () => net.connect(process.env.WATT_MESH_SOCKET) })
}

function call (session) {
  return new Promise((resolve, reject) => {
    session.on('error', reject)
    const stream = session.request({ ':method': 'POST', ':path': '/a.B/C', 'content-type': 'application/grpc', te: 'trailers' })
    let body = ''
    let status
    stream.on('error', reject)
    stream.on('data', data => { body += data })
    stream.on('trailers', trailers => { status = trailers['grpc-status'] })
    stream.on('end', () => resolve(`${body} ${status}`))
    stream.end('hello')
  })
}

http.createServer(async (request, response) => {
  const session = ways[request.url]()
  const told = await call(session).catch(String)
  session.destroy()
  response.end(told)
}).listen(process.env.WATT_SOCKET)
