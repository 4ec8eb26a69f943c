// Products, and one door to what the other services know. Both workers listen on port 3000.
'use strict'
const { createServer } = require('node:http')

const products = [
  { id: 1, name: 'Espresso machine', price: 24900 },
  { id: 2, name: 'Coffee beans', price: 1490 },
  { id: 3, name: 'Milk jug', price: 1290 },
  { id: 4, name: 'Grinder', price: 8900 },
  { id: 5, name: 'Cup', price: 790 }
]
const byId = new Map(products.map((product) => [product.id, product]))

function reply (res, status, value) {
  const body = JSON.stringify(value)
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).end(body)
}

async function body (req) {
  let text = ''
  for await (const chunk of req) {
    text += chunk
    if (text.length > 10_000) throw Object.assign(new Error('too long'), { status: 413 })
  }
  return text
}

async function ask (url, options) {
  const response = await fetch(url, { signal: AbortSignal.timeout(5000), ...options })
  if (!response.ok) throw Object.assign(new Error(`${url} said ${response.status}`), { status: 502 })
  return response.json()
}

const routes = [
  [/^GET \/healthz$/, () => ({ ok: true })],
  [/^GET \/products$/, () => products],
  [/^GET \/products\/(\d+)$/, (_, id) => byId.get(Number(id))],
  [/^GET \/products\/(\d+)\/recommendations$/, async (_, id) => {
    const ids = await ask(`http://recommendations.plt.local/for/${id}`)
    return ids.map((other) => byId.get(other)).filter(Boolean)
  }],
  [/^GET \/orders$/, () => ask('http://orders.plt.local/orders')],
  [/^POST \/orders$/, async (req) => ask('http://orders.plt.local/orders', { method: 'POST', body: await body(req) })]
]

createServer(async (req, res) => {
  const asked = `${req.method} ${new URL(req.url, 'http://api').pathname}`
  try {
    for (const [pattern, handler] of routes) {
      const match = pattern.exec(asked)
      if (!match) continue
      const value = await handler(req, ...match.slice(1))
      return value === undefined ? reply(res, 404, { error: 'no such product' }) : reply(res, 200, value)
    }
    reply(res, 404, { error: `no route for ${asked}` })
  } catch (error) {
    console.error(JSON.stringify({ level: 50, msg: error.message, asked }))
    reply(res, error.status ?? 500, { error: error.message })
  }
}).listen(3000, () => console.log(JSON.stringify({ level: 30, msg: 'api is ready', worker: process.env.WATT_WORKER })))
