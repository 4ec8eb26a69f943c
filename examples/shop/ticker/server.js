// Prices as they change: a WebSocket (RFC 6455) that sends a new one five times a second.
'use strict'
const { createServer } = require('node:http')
const { createHash } = require('node:crypto')

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const clients = new Set()

/** A text frame of less than 126 bytes. */
function frame (text) {
  const payload = Buffer.from(text)
  return Buffer.concat([Buffer.from([0x81, payload.length]), payload])
}

function tick (products) {
  const product = products[Math.floor(Math.random() * products.length)]
  const change = Math.round(product.price * (Math.random() - 0.5) * 0.02)
  product.price += change
  const message = frame(JSON.stringify({ id: product.id, price: product.price, change }))
  for (const socket of clients) socket.write(message)
}

async function main () {
  const products = await (await fetch('http://api.plt.local/products')).json()
  setInterval(tick, 200, products)
  const server = createServer((req, res) => res.writeHead(426, { upgrade: 'websocket' }).end('speak WebSocket\n'))
  server.on('upgrade', (req, socket) => {
    const accept = createHash('sha1').update(req.headers['sec-websocket-key'] + GUID).digest('base64')
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`)
    clients.add(socket)
    // Clients have nothing to say here but goodbye: a close frame is answered by closing.
    socket.on('data', (data) => { if ((data[0] & 0x0f) === 8) socket.end(Buffer.from([0x88, 0])) })
    socket.on('error', () => {})
    socket.on('close', () => clients.delete(socket))
  })
  server.listen(3000, () => console.log('ticker is running'))
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
