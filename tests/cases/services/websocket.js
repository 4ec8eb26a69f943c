// Upgrades a connection and echoes what comes until "bye"; or, with a service as its argument, passes the upgrade on to that
// service through the mesh. What flows after the handshake is opaque to every proxy, so plain text does.
'use strict'
const { createServer, request } = require('node:http')
const { createHash } = require('node:crypto')

const target = process.argv[2]
const server = createServer((req, res) => res.writeHead(426).end())
server.on('upgrade', (req, socket, head) => {
  socket.on('error', () => {})
  if (target) {
    const { host, ...headers } = req.headers
    const onward = request(`http://${target}.plt.local/`, { headers })
    onward.on('upgrade', (answer, other, rest) => {
      other.on('error', () => {})
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        `Sec-WebSocket-Accept: ${answer.headers['sec-websocket-accept']}\r\n\r\n`)
      socket.write(rest)
      other.write(head)
      socket.pipe(other).pipe(socket)
    })
    onward.end()
    return
  }
  const accept = createHash('sha1')
    .update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    `Sec-WebSocket-Accept: ${accept}\r\n\r\n`)
  const echo = (data) => {
    socket.write(data)
    if (data.includes('bye')) socket.end()
  }
  if (head.length) echo(head)
  socket.on('data', echo)
})
server.listen(3000)
