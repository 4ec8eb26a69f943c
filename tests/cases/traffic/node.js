// What the traffic of tests/src/traffic.rs is sent to, in Node. It ends at once when it is told to, like a program that knows
// nothing of its surroundings.
'use strict'
const { createServer, request } = require('node:http')
const { createHash } = require('node:crypto')
const { appendFileSync } = require('node:fs')

const EVENTS = 60
const EVENT_EVERY_MS = 20
const posts = `${process.env.STATE_DIRECTORY}/posts`

const server = createServer((req, res) => {
  const [, what, ...rest] = req.url.split('/')
  if (what === 'mesh') return onward(req, res, rest)
  if (what === 'events') return stream(res)
  let length = 0
  req.on('data', (part) => { length += part.length })
  req.on('end', () => {
    // Long enough for a kill to find a request inside.
    if (what === 'post') return setTimeout(() => { appendFileSync(posts, `${rest[0]}\n`); res.end(`${req.url} ${length}`) }, 5)
    res.end(`${req.url} ${length}`)
  })
})

// /mesh/<service>/<path> is asked of that service, and its answer is passed on.
function onward (req, res, [service, ...path]) {
  const { 'content-length': length = 0 } = req.headers
  const call = request(`http://${service}.plt.local/${path.join('/')}`, { method: req.method, headers: { 'content-length': length } })
  call.on('response', (answer) => { res.statusCode = answer.statusCode; answer.pipe(res) })
  call.on('error', (error) => { res.statusCode = 599; res.end(`${service}: ${error.message}`) })
  req.pipe(call)
}

function stream (res) {
  res.setHeader('content-type', 'text/event-stream')
  let nth = 0
  const timer = setInterval(() => {
    res.write(`data: ${nth += 1}\n\n`)
    if (nth === EVENTS) { clearInterval(timer); res.end() }
  }, EVENT_EVERY_MS)
  res.on('close', () => clearInterval(timer))
}

// Echoes each frame of up to 125 bytes, unmasked as a server's have to be, and a Close as well, after which it ends.
server.on('upgrade', (req, socket, head) => {
  socket.on('error', () => {})
  const accept = createHash('sha1').update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
  let input = head
  const read = (data) => {
    input = Buffer.concat([input, data])
    while (input.length >= 6 && input.length >= 6 + (input[1] & 127)) {
      const length = input[1] & 127
      const payload = Buffer.from(input.subarray(6, 6 + length).map((byte, at) => byte ^ input[2 + at % 4]))
      socket.write(Buffer.concat([Buffer.from([input[0], length]), payload]))
      const closes = (input[0] & 15) === 8
      if (closes) {
        console.log(`closed by the other side: ${length >= 2 ? payload.readUInt16BE(0) : 'no code'}`)
        return socket.end()
      }
      input = input.subarray(6 + length)
    }
  }
  read(Buffer.alloc(0))
  socket.on('data', read)
})
server.listen(3000)
